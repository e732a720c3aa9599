"""The whole configuration of a job."""

from collections.abc import Callable
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from luke_batch.base.errors import ConfigError
from luke_batch.config.heads import (
    EmbeddingsConfig,
    HeadConfig,
    LinksConfig,
    NerConfig,
    RelationsConfig,
    TypesConfig,
)
from luke_batch.config.model import DEFAULT_MODEL, ModelConfig
from luke_batch.config.output import IsolationConfig, OutputConfig
from luke_batch.config.section import Section
from luke_batch.config.text import InputConfig, ProposerConfig, SegmenterConfig
from luke_batch.config.text_heads import ChoiceConfig, ClozeConfig, QaConfig, SequenceConfig, TokensConfig

Head = Annotated[
    NerConfig
    | TypesConfig
    | RelationsConfig
    | LinksConfig
    | EmbeddingsConfig
    | SequenceConfig
    | TokensConfig
    | QaConfig
    | ChoiceConfig
    | ClozeConfig,
    Field(discriminator="head"),
]


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

    @property
    def uses_aliases(self) -> bool:
        """Whether a head looks at the alias table."""
        return any(
            "alias" in head.proposers or (isinstance(head, LinksConfig) and head.candidates == "aliases")
            for head in self.heads
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        mentions_exist = False
        for number, head in enumerate(self.heads):
            where = f"heads.{number} ({head.head})"
            self._check_spans(head, where, mentions_exist)
            if isinstance(head, EmbeddingsConfig) and head.needs_titles:
                self._check_titles(number, where)
            mentions_exist = mentions_exist or bool(head.proposers)
        names = [head.head for head in self.heads]
        for name in dict.fromkeys(names):
            # Types of mentions unite, and a later `ner` goes before an earlier one.
            if name not in ("ner", "types") and names.count(name) > 1:
                raise ConfigError(f"heads: {name} is configured twice, and both would write the same columns")
        return self

    def _check_titles(self, number: int, where: str) -> None:
        linked = [place for place, head in enumerate(self.heads) if isinstance(head, LinksConfig)]
        if not linked and self.input.mentions_column is None:
            raise ConfigError(
                f"{where}: it reads the titles of mentions, and nothing finds them; put a `links` head before"
                " it, or give mentions with titles (`input.mentions_column`)"
            )
        if linked and linked[0] > number:
            raise ConfigError(f"{where}: it reads the titles of mentions; put it after `links`, which finds them")

    def _check_spans(self, head: HeadConfig, where: str, mentions_exist: bool) -> None:
        spans = head.proposers
        if "previous" in spans and not mentions_exist:
            raise ConfigError(
                f"{where}: `spans: previous` has no head before it that finds mentions;"
                " put `ner` before it, or use `spans: given`, `gazetteer`, `alias` or `auto`"
            )
        if "gazetteer" in spans and self.proposers.gazetteer is None:
            raise ConfigError(f"{where}: `spans: gazetteer` needs `proposers.gazetteer.path`")
        mentions_given = self.input.mentions_column is not None
        pairs_given = isinstance(head, RelationsConfig) and head.pairs == "given"
        if pairs_given and (self.input.relations_column is None or not mentions_given):
            raise ConfigError(f"{where}: `pairs: given` needs `input.relations_column` and `input.mentions_column`")
        if "given" in spans and not mentions_given:
            raise ConfigError(f"{where}: `spans: given` needs `input.mentions_column`")
        if isinstance(head, LinksConfig) and head.candidates == "given" and not mentions_given:
            raise ConfigError(f"{where}: `candidates: given` needs `input.mentions_column`")
