"""The whole configuration of a job: one typed model, every key with a default and a docstring.

Where the values come from (YAML, `--set`, environment) is the business of `loading.py`; which of them
change results is the business of `fingerprint.py`.
"""

from collections.abc import Callable
from functools import cache, reduce
from operator import getitem, or_
from typing import Annotated, Any, Self, cast

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    SerializeAsAny,
    TypeAdapter,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue

from luke_batch.base.errors import ConfigError
from luke_batch.base.section import Section
from luke_batch.config.sections import InputConfig, IsolationConfig, OutputConfig, SegmenterConfig
from luke_batch.heads.embeddings import EmbeddingsConfig
from luke_batch.heads.head import HeadConfig, Place, SourceColumn
from luke_batch.heads.ner import NerConfig
from luke_batch.heads.registry import known_heads
from luke_batch.heads.relations import RelationsConfig
from luke_batch.heads.types import TypesConfig
from luke_batch.model.settings import DEFAULT_MODEL, ModelConfig
from luke_batch.text.proposers import ProposerConfig


@cache
def _by_name(heads: tuple[type[HeadConfig], ...]) -> TypeAdapter[HeadConfig]:
    """Reads the settings of any of these heads, by what `head` says."""
    tagged: Any = getitem(cast("Any", Annotated), (reduce(or_, heads), Field(discriminator="head")))
    return TypeAdapter(tagged)


def _any_head() -> TypeAdapter[HeadConfig]:
    return _by_name(tuple(head.settings for head in known_heads().values()))


class _HeadSchema:
    """The JSON schema of any head, instead of that of their base."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(_any_head().core_schema)


AnyHead = Annotated[
    SerializeAsAny[HeadConfig], BeforeValidator(lambda value: _any_head().validate_python(value)), _HeadSchema()
]


class JobConfig(Section):
    """Everything that a job can be told; `annotate` runs with none of it."""

    input: InputConfig = InputConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    proposers: ProposerConfig = ProposerConfig()
    models: dict[str, ModelConfig] = {DEFAULT_MODEL: ModelConfig()}
    """Checkpoints by name."""
    heads: Annotated[list[AnyHead], Field(min_length=1)] = [
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
        return any(head.uses_aliases for head in self.heads)

    @property
    def span_sources(self) -> set[str]:
        """Everything that `spans` of any head names."""
        return {name for head in self.heads for name in head.proposers}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the annotation columns that the job writes."""
        every = ["sentences", "mentions", "coverage", *(name for head in self.heads for name in head.written)]
        return tuple(dict.fromkeys(every))

    @property
    def source_columns(self) -> dict[str, SourceColumn]:
        """What heads read of the source beside the text, by the keys of the configuration that name it
        (`heads.0.question_column`).
        """
        return {
            f"heads.{number}.{column.setting}": column
            for number, head in enumerate(self.heads)
            for column in head.source_columns
        }

    @property
    def needs_words(self) -> bool:
        """Whether the words of the texts are needed: for runs of them, by proposers, or by a head."""
        return bool(self.span_sources - {"given", "previous"}) or any(head.needs_words for head in self.heads)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = {
            "mentions": self.input.mentions_column,
            "relations": self.input.relations_column,
            "gazetteer": self.proposers.gazetteer,
        }
        there = frozenset(name for name, value in given.items() if value is not None)
        for number, head in enumerate(self.heads):
            complaint = head.complaint(Place(there, self.heads[:number], self.heads[number + 1 :]))
            if complaint is not None:
                raise ConfigError(f"heads.{number} ({head.head}): {complaint}")
        names = [head.head for head in self.heads if not head.repeatable]
        for name in dict.fromkeys(names):
            if names.count(name) > 1:
                raise ConfigError(f"heads: {name} is configured twice, and both would write the same columns")
        return self
