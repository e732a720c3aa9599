"""Sums of vectors by entity, in float64 and in a fixed order."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from luke_batch.index.counts import Ints

_TOGETHER = 256
"""Entities summed at once: their sums stay in the processor's cache."""
_LONG = 64
"""Rows above which an entity is summed by itself."""


def segment_sums(vectors: NDArray[Any], order: Ints, starts: Ints) -> NDArray[np.float64]:
    """Sums of runs of rows, each added one after another.

    Args:
        vectors: (n, dimension), float32 or float64. order: the rows in the order of the sums, (n,). starts:
        where each sum begins in `order`, ascending from 0.

    Returns:
        (sums, dimension). A sum depends on its own rows and their order alone.
    """
    lengths = np.diff(np.append(starts, len(order)))
    sums = np.empty((len(starts), vectors.shape[1]), np.float64)
    for first in range(0, len(starts), _TOGETHER):
        block = slice(first, first + _TOGETHER)
        begin, sizes = starts[block], lengths[block]
        part = sums[block]
        part[:] = vectors[order[begin]]
        short = np.where(sizes > _LONG, 1, sizes)
        for rank in range(1, int(short.max(initial=1))):
            more = np.flatnonzero(short > rank)
            part[more] += vectors[order[begin[more] + rank]]
        for place in np.flatnonzero(sizes > _LONG).tolist():
            rows = order[begin[place] : begin[place] + sizes[place]]
            part[place] = np.add.reduce(vectors[rows], axis=0, dtype=np.float64)
    return sums
