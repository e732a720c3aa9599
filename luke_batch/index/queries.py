"""Queries: a name, or a text in which the mention is marked, `She met [[Marie Curie]] in Paris.`"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import UsageError
from luke_batch.index.entities import vectors_of

OPEN, CLOSE = "[[", "]]"


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A text with one mention."""

    text: str
    """Without the marks."""
    start: int
    """Code points, like `end`."""
    end: int

    @classmethod
    def parse(cls, query: str) -> Self | None:
        """None for a query without marks; UsageError where they are not those of one mention."""
        if OPEN not in query and CLOSE not in query:
            return None
        before, opened, rest = query.partition(OPEN)
        mention, closed, after = rest.partition(CLOSE)
        if not opened or not closed or any(mark in mention + after for mark in (OPEN, CLOSE)):
            raise UsageError(f"query {query!r}: mark one mention, as in 'She met {OPEN}Marie Curie{CLOSE} in Paris.'")
        # Blanks inside the marks are no part of the name.
        lead = len(mention) - len(mention.lstrip())
        if not mention.strip():
            raise UsageError(f"query {query!r}: there is nothing between {OPEN} and {CLOSE}")
        start = len(before) + lead
        return cls(before + mention + after, start, start + len(mention.strip()))


class Embedder:
    """Embeds marked mentions with the model that made the vectors of an index, in this process."""

    def __init__(self, model: dict[str, Any]) -> None:
        # Here, not above: who searches by name needs no torch.
        from luke_batch.annotate.annotator import Annotator
        from luke_batch.config import JobConfig

        revision = f"@{model['revision']}" if model["revision"] else ""
        path = str(model["path"])
        settings = {
            "input": {"id_column": None, "mentions_column": "given"},
            "models": {
                "main": {
                    "path": path if "@" in path else path + revision,
                    "precision": model["precision"],
                    "add_prefix_space": model["add_prefix_space"],
                    "weights_hash": model["weights"],
                }
            },
            "heads": [
                {
                    "head": "embeddings",
                    "spans": "given",
                    "of": "mentions",
                    "context": model["context"],
                    "joint": model["joint"],
                }
            ],
        }
        self._annotator = Annotator.from_config(JobConfig.model_validate(settings))

    def embed(self, queries: Sequence[MarkedText]) -> FloatArray:
        """(queries, dimension). UsageError where a mention gets no vector."""
        spans = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))
        given = [[{"start": query.start, "end": query.end}] for query in queries]
        table = pa.table({"text": [query.text for query in queries], "given": pa.array(given, spans)})
        annotated = self._annotator.annotate(table)
        for query, error, vectors in zip(
            queries,
            annotated["error"].to_pylist(),
            annotated["mention_embeddings"],
            strict=True,
        ):
            if error is not None or not vectors.is_valid or not vectors.values[0].is_valid:
                cause = "its mention has no words that the model knows" if error is None else error["message"]
                raise UsageError(f"query {query.text!r} cannot be embedded: {cause}")
        return vectors_of(annotated["mention_embeddings"].combine_chunks().flatten())
