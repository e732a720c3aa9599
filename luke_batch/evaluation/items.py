"""Labelled places in documents as flat arrays: what GOLD says, and what ANNOTATED says."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from luke_batch.evaluation.tables import struct_member

Integers = NDArray[np.int64]
Strings = NDArray[np.object_]

NULL = np.iinfo(np.int64).min
"""Stands for a null among offsets and indices."""


@dataclass(frozen=True, slots=True)
class Items:
    """n items. An item is a label at a place; a place is a span, or the spans of head and tail."""

    documents: Integers
    """(n,) row of GOLD."""
    places: Integers
    """(n, 2) start and end, or (n, 4) those of head and tail, in code points."""
    labels: Strings
    """(n,) str."""
    scores: NDArray[np.float64]
    """(n,) probabilities; NaN where there is none, and all over GOLD."""

    def __len__(self) -> int:
        return len(self.documents)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Items":
        """Those that a mask or indices choose."""
        return Items(self.documents[chosen], self.places[chosen], self.labels[chosen], self.scores[chosen])

    def distinct(self) -> "Items":
        """Each (document, place, label) once, with its highest score; by falling score, those without one last."""
        ranked = self.take(np.argsort(-self.scores, kind="stable"))  # NaN sorts last
        _, codes = np.unique(ranked.labels.astype(str), return_inverse=True)
        keys = np.column_stack([ranked.documents, ranked.places, codes])
        _, first = np.unique(keys, axis=0, return_index=True)
        return ranked.take(np.sort(first))


@dataclass(frozen=True, slots=True)
class Structs:
    """The n structs of all lists of a column, in order."""

    values: pa.StructArray
    parents: Integers
    """(n,) row, from 0, of the list that each belongs to."""
    firsts: Integers
    """(rows,) position of each list's first struct."""
    sizes: Integers
    """(rows,) structs of each list; 0 for a null list."""

    @classmethod
    def of(cls, lists: pa.Array) -> "Structs":
        """The structs of an array that has a type from `tables.structs`."""
        sizes = cast(Integers, lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
        parents = np.repeat(np.arange(len(sizes)), sizes)
        return cls(lists.flatten(), parents, np.cumsum(sizes) - sizes, sizes)

    def integers(self, *members: str) -> Integers:
        """(n, members) values; NULL where one is null."""
        columns = [struct_member(self.values, member).fill_null(NULL) for member in members]
        return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)

    def floats(self, member: str) -> NDArray[np.float64]:
        """(n,) values; NaN where one is null."""
        values = struct_member(self.values, member).to_numpy(zero_copy_only=False)
        return cast("NDArray[np.float64]", values.astype(np.float64))

    def strings(self, member: str) -> Strings:
        """(n,) values; None where one is null."""
        return cast(Strings, struct_member(self.values, member).to_numpy(zero_copy_only=False))

    def lacks(self, member: str) -> NDArray[np.bool_]:
        """(n,) whether a member is null."""
        nulls = struct_member(self.values, member).is_null()
        return cast("NDArray[np.bool_]", nulls.to_numpy(zero_copy_only=False))

    def structs(self, member: str) -> "Structs":
        """The structs of a member that is itself a list; their parents are positions among these."""
        return Structs.of(struct_member(self.values, member))

    def pointed_at(self, pairs: "Structs") -> Integers:
        """(pairs, 2) positions, among these, of the structs that head and tail of `pairs` name, which is
        another column of the same table; -1 where there is none.
        """
        indices, parents = pairs.integers("head", "tail"), pairs.parents[:, None]
        inside = (indices >= 0) & (indices < self.sizes[parents])
        return np.where(inside, self.firsts[parents] + indices, -1)
