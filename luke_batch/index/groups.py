"""Groups, such as the mentions of an entity: their counted strings (list<struct<value, count>>), and sums of their
vectors in float64 and in a fixed order.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_TOGETHER = 256
"""Entities summed at once: their sums stay in the processor's cache."""
_LONG = 64
"""Rows above which an entity is summed by itself."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each group has each string; sorted by group, then by count, most first, then by string."""

    groups: Ints
    values: pa.StringArray
    counts: Ints

    @classmethod
    def of(cls, groups: Ints, values: pa.Array, counts: Ints | None = None) -> Self:
        """Add up what belongs together; null strings do not count.

        Args:
            groups: group of each entry, (n,). values: strings, n. counts: (n,); None: one each.
        """
        weights = np.ones(len(groups), np.int64) if counts is None else counts
        table = pa.table({"group": groups, "value": values.cast(pa.string()), "count": weights}).filter(
            values.is_valid()
        )
        table = table.group_by(["group", "value"], use_threads=False).aggregate([("count", "sum")])
        table = table.sort_by([("group", "ascending"), ("count_sum", "descending"), ("value", "ascending")])
        return cls(table["group"].to_numpy(), table["value"].combine_chunks(), table["count_sum"].to_numpy())

    @classmethod
    def of_lists(cls, groups: Ints, lists: pa.ListArray) -> Self:
        """Add up list<struct<string, count>> entries; `groups` is that of each list."""
        lengths = lists.value_lengths().fill_null(0).to_numpy()
        members = lists.flatten().flatten()
        return cls.of(np.repeat(groups, lengths), members[0], members[1].to_numpy())

    def lists(self, count: int, field: str, most: int | None = None) -> pa.ListArray:
        """list<struct<`field`: string, count: int64>> of the groups 0 to `count` - 1, at most `most` each."""
        groups, values, counts = self.groups, self.values, self.counts
        if most is not None and len(groups):
            kept = places(groups) < most
            groups, values, counts = groups[kept], values.filter(pa.array(kept)), counts[kept]
        offsets = np.searchsorted(groups, np.arange(count + 1)).astype(np.int32)
        kind = [pa.field(field, pa.string()), pa.field("count", pa.int64())]
        return pa.ListArray.from_arrays(
            pa.array(offsets), pa.StructArray.from_arrays([values, pa.array(counts)], fields=kind)
        )

    def first(self, count: int) -> pa.StringArray:
        """The string that each of the groups 0 to `count` - 1 has most; null for one without strings."""
        at = np.searchsorted(self.groups, np.arange(count))
        has = at < len(self.groups)
        has[has] = self.groups[at[has]] == np.flatnonzero(has)
        return self.values.take(pa.array(np.where(has, at, 0), mask=~has))


def group_starts(ordered: Ints) -> Ints:
    """Where runs of equal numbers begin."""
    if not len(ordered):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))


def places(ordered: Ints) -> Ints:
    """The place of each number in its run of equal ones, from 0."""
    starts = group_starts(ordered)
    lengths = np.diff(np.append(starts, len(ordered)))
    return np.arange(len(ordered)) - np.repeat(starts, lengths)


def among(values: Ints, ascending: Ints) -> NDArray[np.bool_]:
    """Which of `values` are in `ascending`."""
    if not len(ascending):
        return np.zeros(len(values), bool)
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[place] == values


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
