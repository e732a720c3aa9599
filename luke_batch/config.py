"""The job configuration: one typed model, every key with a default and a docstring.

Where the values come from (YAML, `--set`, environment) is the business of `settings.py`; which of them
change results is the business of `fingerprint.py`.
"""

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from luke_batch.errors import ConfigError

EMBEDDED = "embedded"
DEFAULT_MODEL = "main"

Proposer = Literal["auto", "all", "gazetteer", "given", "previous"]


def _listed(value: object) -> object:
    """`spans: all` and `spans: [all]` mean the same."""
    return [value] if isinstance(value, str) else value


Proposers = Annotated[list[Proposer], BeforeValidator(_listed), Field(min_length=1)]


class Section(BaseModel):
    """Base of every part: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class InputConfig(Section):
    """Which columns of INPUT are read."""

    id_column: str | None = "id"
    """Column that names a document in reports and dead letters (string or integer); null: `<path>#<row>`."""
    text_column: str = "text"
    """Column with the text: string, large_string, string_view or a dictionary of these."""
    lang_column: str | None = None
    """Column, or key of a hive partition, with language codes (ISO 639 or BCP-47); null: the segmenter goes
    by script.
    """
    mentions_column: str | None = None
    """Column with given mentions: list<struct<start, end, …>>, code points. A string field `label` is kept
    where the job has no `ner` head.
    """
    relations_column: str | None = None
    """Column with given pairs: list<struct<head, tail, …>>, indices into `mentions_column`."""


class SegmenterConfig(Section):
    """How texts are cut into sentences."""

    name: Literal["sentencex"] = "sentencex"
    """Segmenter to use."""
    max_characters: int = Field(default=1000, ge=16)
    """Longer sentences are split at the best boundary."""


class GazetteerConfig(Section):
    """The names table of the `gazetteer` proposer."""

    path: str
    """Parquet or CSV file with one name a row, local or `s3://`."""
    column: str = "name"
    """Column that holds the names."""
    case: Literal["exact", "fold", "smart"] = "smart"
    """exact; fold: case is ignored; smart: ignored except for names of at most three characters or all
    upper case.
    """


class ProposerConfig(Section):
    """Limits and tables of the span proposers."""

    max_words: int | None = Field(default=None, ge=1, le=64)
    """Longest span of `all` and `auto` in words; null: what the checkpoint was trained with, else 16."""
    gazetteer: GazetteerConfig | None = None
    """Needed by `spans: gazetteer`."""


Precision = Literal["auto", "float32", "bfloat16"]


def _resolved(precision: Precision) -> Precision:
    """`auto` is the exact one, until an engine is tested to agree with it in another."""
    return "float32" if precision == "auto" else precision


class ModelConfig(Section):
    """A checkpoint with its engine and resources."""

    path: str = EMBEDDED
    """`embedded`, a hub id (`id` or `id@revision`), a folder or `s3://…`."""
    engine: Literal["fast", "transformers"] = "fast"
    """Which implementation runs the forward pass. Both give the same within float tolerance; transformers is
    the reference, and runs activations other than gelu.
    """
    precision: Annotated[Precision, AfterValidator(_resolved)] = "float32"
    """auto: float32. bfloat16: faster on CPUs with AVX512-BF16 or AMX; scores differ by about 0.01."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU that Ray assigned to the actor, else the CPU."""
    max_tokens: int = Field(default=1024, ge=512)
    """Budget of a batch: words and entities together (engine transformers: padding too)."""
    actors: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Size of the actor pool; auto: as many as the cluster's CPUs (or GPUs) hold."""
    num_cpus: float = Field(default=1, ge=0)
    """CPUs that Ray reserves for each actor."""
    num_gpus: float = Field(default=0, ge=0)
    """GPUs that Ray reserves for each actor; fractions share one GPU."""
    add_prefix_space: bool | None = None
    """Overrides the tokenizer's own `add_prefix_space`."""
    weights_hash: str | None = None
    """Content hash that the checkpoint must have, as in a run's manifest; null: any. A run tells it to its
    workers, so that all of them load what was planned.
    """


class HeadConfig(Section):
    """Settings that every head has."""

    model: str = DEFAULT_MODEL
    """A name in `models`, or directly `embedded`, a hub id, a folder or `s3://…`."""
    context: Literal["none", "document"] | None = None
    """none: the sentence alone; document: the window is filled with neighbouring text; null: what the
    checkpoint asks for.
    """


class NerConfig(HeadConfig):
    """Named entities over proposed spans (LukeForEntitySpanClassification)."""

    head: Literal["ner"] = "ner"
    spans: Proposers = ["auto"]
    """Where candidate spans come from."""
    decode: Literal["flat", "nested"] = "flat"
    """flat: best spans first, words used once; nested: every span that is not NIL."""
    none_label: str | None = None
    """Label that means "no entity"; null: what the checkpoint says, else NIL or the first label."""


class TypesConfig(HeadConfig):
    """Entity types of mentions (LukeForEntityClassification)."""

    head: Literal["types"] = "types"
    spans: Proposers = ["previous"]
    """Mentions to type."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Multi-label: labels with at least this probability are written; null: what the checkpoint says, else
    0.5.
    """
    multi_label: Literal["auto"] | bool = "auto"
    """auto: what the checkpoint says."""


class RelationsConfig(HeadConfig):
    """Relations between mention pairs (LukeForEntityPairClassification)."""

    head: Literal["relations"] = "relations"
    spans: Proposers = ["previous"]
    """Mentions to pair."""
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


class EmbeddingsConfig(HeadConfig):
    """Vectors of mentions and texts (LukeModel)."""

    head: Literal["embeddings"] = "embeddings"
    spans: Proposers = ["previous"]
    """Mentions to embed."""
    of: Annotated[list[Literal["mentions", "text"]], BeforeValidator(_listed), Field(min_length=1)] = [
        "mentions",
        "text",
    ]
    """mentions: one vector a mention; text: one vector a document."""
    joint: bool = True
    """All mentions of a sentence in one pass; false: one a pass."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type of the written vectors."""


Head = Annotated[NerConfig | TypesConfig | RelationsConfig | EmbeddingsConfig, Field(discriminator="head")]


class OutputConfig(Section):
    """How committed files are cut and judged."""

    max_rows: int = Field(default=1000, ge=1)
    """Most documents of a fragment, the unit of commit."""
    max_bytes: int = Field(default=16 * 2**20, ge=2**10)
    """Most uncompressed bytes of a fragment, by the file's footer."""
    compression: Literal["zstd", "snappy", "none"] = "zstd"
    """Codec of the output files."""
    error_budget: float = Field(default=0.01, ge=0)
    """Dead letters that a complete run may have: below 1 a share of documents, from 1 a count."""
    drift_limit: float | None = Field(default=None, gt=0, le=1)
    """Most that the shares of labels may differ from those of the run before, as a Jensen-Shannon distance
    (0 to 1); a run beyond it ends with exit code 5. null: any.
    """
    on_vanished: Literal["keep", "prune"] = "keep"
    """Outputs whose source file is no longer in INPUT; prune: removed at the end of a complete run."""
    lease_seconds: int = Field(default=60, ge=1)
    """So long after its last sign of life a run that crashed keeps others from OUTPUT."""
    shared: bool = False
    """A local OUTPUT is mounted on every node of the cluster."""


class IsolationConfig(Section):
    """When a document is given up, so that it costs no other."""

    seconds: float = Field(default=60, gt=0)
    """Longest time without progress for each 1,000 characters of a document; a shorter one has as much."""
    memory_gb: Literal["auto"] | Annotated[float, Field(gt=0)] | None = "auto"
    """What a process may take for its data; auto: half of the machine's (or container's) memory; null: any
    amount. Not applied to processes with a GPU.
    """


class JobConfig(Section):
    """Everything that a job can be told; `annotate` runs with none of it."""

    input: InputConfig = InputConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    proposers: ProposerConfig = ProposerConfig()
    models: dict[str, ModelConfig] = {DEFAULT_MODEL: ModelConfig()}
    """Checkpoints by name."""
    heads: Annotated[list[Head], Field(min_length=1)] = [
        NerConfig(),
        TypesConfig(),
        RelationsConfig(),
        EmbeddingsConfig(),
    ]
    """What is annotated, in this order."""
    output: OutputConfig = OutputConfig()
    isolation: IsolationConfig = IsolationConfig()

    @field_validator("models", mode="after")
    @classmethod
    def _with_default(cls, models: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        """Heads name `main` unless told otherwise, so it exists even where only other names are
        configured.
        """
        return models if DEFAULT_MODEL in models else {DEFAULT_MODEL: ModelConfig(), **models}

    def model_of(self, head: HeadConfig) -> ModelConfig:
        """The checkpoint that `head` runs on; a name that is not in `models` is a path."""
        return self.models.get(head.model) or ModelConfig(path=head.model)

    def with_models(self, change: Callable[[ModelConfig], ModelConfig]) -> Self:
        """The same job with every checkpoint in use changed, and the names of `heads` kept."""
        changed = {head.model: change(self.model_of(head)) for head in self.heads}
        return self.model_copy(update={"models": {**self.models, **changed}})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        mentions_exist = False
        for number, head in enumerate(self.heads):
            where = f"heads.{number} ({head.head})"
            spans: list[Proposer] = head.spans
            pairs_given = isinstance(head, RelationsConfig) and head.pairs == "given"
            needs_spans = not (isinstance(head, EmbeddingsConfig) and "mentions" not in head.of)
            if needs_spans and not pairs_given and "previous" in spans and not mentions_exist:
                raise ConfigError(
                    f"{where}: `spans: previous` has no head before it that finds mentions;"
                    " put `ner` before it, or use `spans: given`, `gazetteer` or `auto`"
                )
            if "gazetteer" in spans and self.proposers.gazetteer is None:
                raise ConfigError(f"{where}: `spans: gazetteer` needs `proposers.gazetteer.path`")
            if "given" in spans and self.input.mentions_column is None:
                raise ConfigError(f"{where}: `spans: given` needs `input.mentions_column`")
            if pairs_given and (self.input.relations_column is None or self.input.mentions_column is None):
                raise ConfigError(
                    f"{where}: `pairs: given` needs `input.relations_column` and `input.mentions_column`"
                )
            mentions_exist = mentions_exist or needs_spans
        names = [head.head for head in self.heads]
        for name in ("relations", "embeddings"):
            if names.count(name) > 1:
                raise ConfigError(f"heads: {name} is configured twice, and both would write the same columns")
        return self
