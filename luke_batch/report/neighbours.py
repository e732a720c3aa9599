"""Nearest mentions by the cosine of their vectors, over all mentions of a table at once.

Brute force: n mentions of dimension d cost one (queries, n) product, which suits a demonstration and not a
corpus.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class MentionVectors:
    """The mentions of a table that have a vector: their documents, surfaces and unit vectors."""

    rows: NDArray[np.int64]
    surfaces: list[str]
    labels: list[str | None]
    vectors: FloatArray

    @classmethod
    def of(cls, table: pa.Table) -> Self:
        """From the columns `mentions` and `mention_embeddings`."""
        mentions = table["mentions"].combine_chunks()
        embeddings = table["mention_embeddings"].combine_chunks()
        each, vectors = mentions.flatten(), embeddings.flatten()
        kept = np.flatnonzero(vectors.is_valid().to_numpy(zero_copy_only=False))
        counts = mentions.value_lengths().fill_null(0).to_numpy()
        rows = np.repeat(np.arange(len(mentions)), counts)
        matrix = vectors.drop_null().flatten().cast(pa.float32()).to_numpy().reshape(len(kept), -1)
        norms = np.linalg.norm(matrix, axis=1, keepdims=True)
        return cls(
            rows=rows[kept],
            surfaces=each.field("text").take(pa.array(kept)).to_pylist(),
            labels=each.field("label").take(pa.array(kept)).to_pylist(),
            vectors=matrix / np.maximum(norms, np.finfo(np.float32).tiny),
        )

    def nearest(self, query: int, count: int) -> list[tuple[int, float]]:
        """The `count` mentions nearest to mention `query` with their cosines, each surface once and not its
        own.
        """
        cosines = self.vectors @ self.vectors[query]
        seen = {self.surfaces[query].casefold()}
        found: list[tuple[int, float]] = []
        for index in np.argsort(-cosines, kind="stable").tolist():
            surface = self.surfaces[index].casefold()
            if surface not in seen:
                seen.add(surface)
                found.append((index, float(cosines[index])))
            if len(found) == count:
                break
        return found
