"""Which columns a job writes, and which of the source its heads read."""

from luke_batch.config import (
    ChoiceConfig,
    ClozeConfig,
    EmbeddingsConfig,
    JobConfig,
    QaConfig,
    RelationsConfig,
    SequenceConfig,
    SourceColumn,
    TokensConfig,
)

_BY_HEAD = {
    "relations": RelationsConfig,
    "sequence": SequenceConfig,
    "tokens": TokensConfig,
    "answers": QaConfig,
    "choice": ChoiceConfig,
    "cloze": ClozeConfig,
}
_BY_VECTOR = {
    "mention_embeddings": "mentions",
    "entity_embeddings": "entities",
    "text_embedding": "text",
    "word_embeddings": "words",
}


def output_columns(config: JobConfig) -> tuple[str, ...]:
    """Names of the annotation columns that a job writes."""
    vectors = {name for head in config.heads if isinstance(head, EmbeddingsConfig) for name in head.of}
    return (
        *("sentences", "mentions", "coverage"),
        *(column for column, kind in _BY_HEAD.items() if any(isinstance(head, kind) for head in config.heads)),
        *(column for column, vector in _BY_VECTOR.items() if vector in vectors),
    )


def head_columns(config: JobConfig) -> dict[str, SourceColumn]:
    """What heads read of the source beside the text, by the keys of the configuration that name it
    (`heads.0.question_column`).
    """
    return {
        f"heads.{number}.{column.setting}": column
        for number, head in enumerate(config.heads)
        for column in head.source_columns
    }
