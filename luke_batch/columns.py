"""Which annotation columns a job writes."""

from luke_batch.config import EmbeddingsConfig, JobConfig, RelationsConfig


def output_columns(config: JobConfig) -> tuple[str, ...]:
    """Names of the annotation columns that a job writes, in their order."""
    embeddings = [head for head in config.heads if isinstance(head, EmbeddingsConfig)]
    wanted = {
        "sentences": True,
        "mentions": True,
        "relations": any(isinstance(head, RelationsConfig) for head in config.heads),
        "mention_embeddings": any("mentions" in head.of for head in embeddings),
        "text_embedding": any("text" in head.of for head in embeddings),
        "coverage": True,
    }
    return tuple(name for name, written in wanted.items() if written)
