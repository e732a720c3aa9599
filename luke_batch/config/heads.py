"""The settings of the heads that look at spans."""

from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from luke_batch.config.model import DEFAULT_MODEL
from luke_batch.config.section import Proposer, Proposers, Section, listed


class SourceColumn(NamedTuple):
    """A column of INPUT that a head reads."""

    setting: str
    """Key of the head's configuration that names it."""
    name: str
    is_list: bool | None
    """list<text> instead of text; None: either."""


class HeadConfig(Section):
    """Settings that every head has."""

    model: str = DEFAULT_MODEL
    """A name in `models`, or directly `embedded`, a hub id, a folder or `s3://…`."""

    @property
    def proposers(self) -> list[Proposer]:
        """Where the spans come from that the head looks at; none for a head without spans."""
        return []

    @property
    def needs_words(self) -> bool:
        """The head looks at the words of the text."""
        return False

    @property
    def needs_titles(self) -> bool:
        """The head looks up titles among the model's entities."""
        return False

    @property
    def source_columns(self) -> list[SourceColumn]:
        """What the head reads beside the text."""
        return []


class SpanHeadConfig(HeadConfig):
    """Settings of a head that looks at spans."""

    context: Literal["none", "document"] | None = None
    """none: the sentence alone; document: the window is filled with neighbouring text; null: what the
    checkpoint asks for.
    """
    spans: Proposers = ["previous"]
    """Where the mentions come from."""

    @property
    def proposers(self) -> list[Proposer]:
        """See HeadConfig."""
        return self.spans


class NerConfig(SpanHeadConfig):
    """Named entities over proposed spans (LukeForEntitySpanClassification)."""

    head: Literal["ner"] = "ner"
    spans: Proposers = ["auto"]
    """Where candidate spans come from."""
    decode: Literal["flat", "nested"] = "flat"
    """flat: best spans first, words used once; nested: every span that is not NIL."""
    none_label: str | None = None
    """Label that means "no entity"; null: what the checkpoint says, else NIL or the first label."""


class TypesConfig(SpanHeadConfig):
    """Entity types of mentions (LukeForEntityClassification)."""

    head: Literal["types"] = "types"
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Multi-label: labels with at least this probability are written; null: what the checkpoint says, else
    0.5.
    """
    multi_label: Literal["auto"] | bool = "auto"
    """auto: what the checkpoint says."""


class RelationsConfig(SpanHeadConfig):
    """Relations between mention pairs (LukeForEntityPairClassification)."""

    head: Literal["relations"] = "relations"
    pairs: Literal["all", "given"] = "all"
    """all: ordered pairs inside a sentence; given: those of `input.relations_column`."""
    max_pairs: int = Field(default=64, ge=1)
    """Most ordered pairs of a sentence, nearest first; the rest are counted in coverage."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Multi-label: relations with at least this probability are written; null: what the checkpoint says,
    else 0.5.
    """
    multi_label: Literal["auto"] | bool = "auto"
    """auto: what the checkpoint says."""
    none_label: str | None = None
    """Label that means "no relation"; null: what the checkpoint says, else no_relation or the first label."""

    @property
    def proposers(self) -> list[Proposer]:
        """See HeadConfig."""
        return ["given"] if self.pairs == "given" else self.spans


class LinksConfig(SpanHeadConfig):
    """Wikipedia titles of mentions, chosen among candidates (LukeForMaskedLM's entity head)."""

    head: Literal["links"] = "links"
    candidates: Literal["aliases", "given"] = "aliases"
    """aliases: the titles that the mention's text stands for in the alias table; given: the field
    `candidates` of the given mentions.
    """
    max_candidates: int = Field(default=30, ge=1, le=1000)
    """Titles of a mention that are scored, those with the largest prior."""
    rounds: Literal["all"] | Annotated[int, Field(ge=1)] = 1
    """1: each mention by itself; more: in each round the surest mentions are settled, and the model reads
    their titles in the next ones; all: one mention a round.
    """
    prior_weight: float | None = Field(default=None, ge=0)
    """Weight of the logarithm of a candidate's prior beside the model's score; null: what the checkpoint
    says, else 0.
    """
    threshold: float | None = Field(default=None, ge=0, lt=1)
    """Titles below this probability are not written; null: what the checkpoint says, else 0."""
    title_language: str = "en"
    """Language of titles that name none: `Paris` and `en:Paris` are one entity of the model."""

    @property
    def needs_titles(self) -> bool:
        """See HeadConfig."""
        return True


class EmbeddingsConfig(SpanHeadConfig):
    """Vectors of mentions, entities, texts and words (LukeModel)."""

    head: Literal["embeddings"] = "embeddings"
    of: Annotated[
        list[Literal["mentions", "entities", "text", "words"]], BeforeValidator(listed), Field(min_length=1)
    ] = ["mentions", "text"]
    """mentions: one vector a mention, from its text alone; entities: one for each mention with a title that
    the model knows, which it reads as input; text: one a document; words: one a word.
    """
    joint: bool = True
    """All mentions of a sentence in one pass; false: one a pass."""
    with_entities: bool = False
    """The model reads the titles of the mentions along with the text: knowledge-enhanced vectors of text and
    words.
    """
    normalized: bool = False
    """Vectors of length 1."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type of the written vectors."""
    title_language: str = "en"
    """Language of titles that name none: `Paris` and `en:Paris` are one entity of the model."""

    @property
    def proposers(self) -> list[Proposer]:
        """See HeadConfig."""
        return self.spans if "mentions" in self.of or "entities" in self.of or self.with_entities else []

    @property
    def needs_words(self) -> bool:
        """See HeadConfig."""
        return "words" in self.of

    @property
    def needs_titles(self) -> bool:
        """See HeadConfig."""
        return self.with_entities or "entities" in self.of
