"""Where a new entity's row lies, in closed form.

The score of an entity is z . row + bias, where z is the transformed state of the mention's [MASK]. The rows
of known entities and the z of their names are two clouds of points of one width. A new entity's row lies in
the first cloud where the mean z of its mentions lies in the second: moved from centre to centre, and
stretched by the ratio of their radii. Its bias is the mean of the known ones.

Chosen by `recipes/added_entities.py` on the embedded model before a ridge regression from z to rows and
before the stretch of least squares: both shorten the rows, which then lose against trained ones.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import CheckpointError

LEAST = 2
"""Known entities without which there is no radius."""


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """From the mean z of mentions to a row and a bias."""

    vector_mean: FloatArray
    """(width,) of z."""
    row_mean: FloatArray
    """(width,)"""
    stretch: float
    bias: float

    @classmethod
    def fit(cls, vectors: FloatArray, rows: FloatArray, bias: FloatArray, path: str) -> Self:
        """From k known entities.

        Args:
            vectors: (k, width) mean z of each one's mentions.
            rows: (k, width)
            bias: (k,)
            path: what messages call the checkpoint.

        Raises CheckpointError where there are too few, or all are one.
        """
        known, unit = len(vectors), np.float64
        centre, middle = (part.mean(0, dtype=unit) if known else 0.0 for part in (vectors, rows))
        radius, reach = (
            float(np.linalg.norm(part - mean, axis=1).mean()) if known >= LEAST else 0.0
            for part, mean in ((vectors, centre), (rows, middle))
        )
        if not radius or not reach:
            raise CheckpointError(
                f"{path}: only {known} of its titles can be read, too few to learn from where a row belongs; "
                "choose a checkpoint with a trained entity vocabulary"
            )
        return cls(
            np.asarray(centre, np.float32), np.asarray(middle, np.float32), reach / radius, float(bias.mean(dtype=unit))
        )

    def rows(self, vectors: FloatArray) -> FloatArray:
        """(n, width) rows of (n, width) mean z."""
        return (self.row_mean + self.stretch * (vectors - self.vector_mean)).astype(np.float32)

    def biases(self, count: int) -> FloatArray:
        """(count,)"""
        return np.full(count, self.bias, np.float32)
