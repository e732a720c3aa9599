"""What a table of annotated documents holds, in numbers: labels with their scores, and coverage.

Each work item is counted where it is committed, and the counts travel to the driver: nothing is read twice,
and what the driver holds depends on the number of labels alone.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.document.columns import ERROR, FRAGMENT

KINDS = ("mentions", "types", "relations")
"""What has labels: mentions, entity types of mentions, relations between them."""
BINS = 20
"""Bins of a score histogram, each 1/BINS wide; the last includes 1. Behind them comes the count of those
without a score.
"""
MOST_LABELS = 1000
"""Labels of one kind that are counted one by one."""
OTHER = "(other labels)"
_LONGEST = 100
"""Characters of a label that count: those of given mentions may be any text."""
_COVERAGE = ("characters", "sentences", "windows", "tokens", "spans_proposed", "spans_scored")

Histograms = dict[str, list[int]]
"""Label -> BINS + 1 counts."""


@dataclass(slots=True)
class Statistics:
    """Counts over committed documents."""

    documents: int = 0
    mentions: int = 0
    """With a label or without."""
    linked: int = 0
    """Mentions with a title."""
    labels: dict[str, Histograms] = field(default_factory=lambda: dict[str, Histograms]())
    """By kind; a kind is missing where its column is."""
    coverage: Counter[str] = field(default_factory=lambda: Counter[str]())
    """Sums of the numbers in the column `coverage`."""
    dropped: Counter[str] = field(default_factory=lambda: Counter[str]())
    """Windows and spans that were left out, by reason."""

    @classmethod
    def of(cls, table: pa.Table) -> Self:
        """Count the rows of `table`, which has columns of annotations.v1; those it lacks count nothing."""
        found = cls(documents=table.num_rows)
        if "mentions" in table.column_names:
            found.labels |= {"mentions": {}, "types": {}}
        if "relations" in table.column_names:
            found.labels["relations"] = {}
        for chunk in _chunks(table, "mentions"):
            each = chunk.flatten()
            found.mentions += len(each)
            found.linked += len(each) - each.field("title").null_count
            _add(found.labels["mentions"], _histograms(each))
            types = _inner_list(each, "types")
            _add(found.labels["types"], _histograms(types))
        for chunk in _chunks(table, "relations"):
            _add(found.labels["relations"], _histograms(chunk.flatten()))
        for chunk in _chunks(table, "coverage"):
            for name in _COVERAGE:
                found.coverage[name] += pc.call_function("sum", [chunk.field(name)]).as_py() or 0
            dropped = _inner_list(chunk, "dropped")
            reasons = dropped.field("reason").to_pylist()
            for reason, count in zip(reasons, dropped.field("count").to_pylist(), strict=True):
                found.dropped[reason] += count
        return found

    @classmethod
    def of_item(cls, table: pa.Table) -> Self:
        """Count the good documents of a work item's table, as it comes to the commit."""
        columns = [name for name in ("mentions", "relations", "coverage") if name in table.column_names]
        documents = pc.call_function("greater_equal", [table[FRAGMENT], pa.scalar(0, pa.int32())])
        good = pc.call_function("is_null", [table[ERROR]])
        mask = pc.call_function("and", [documents, good])
        found = cls.of(table.select(columns).filter(mask)) if columns else cls()
        found.documents = int(pc.call_function("sum", [mask]).as_py() or 0)
        return found

    def add(self, other: "Statistics") -> None:
        """Count what `other` has counted."""
        self.documents += other.documents
        self.mentions += other.mentions
        self.linked += other.linked
        for kind, histograms in other.labels.items():
            _add(self.labels.setdefault(kind, {}), histograms)
        self.coverage.update(other.coverage)
        self.dropped.update(other.dropped)

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "coverage": dict(self.coverage), "dropped": dict(self.dropped)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        found = cls(value["documents"], value["mentions"], value["linked"], value["labels"])
        found.coverage.update(value["coverage"])
        found.dropped.update(value["dropped"])
        return found


def totals(histograms: Histograms) -> dict[str, int]:
    """Label -> how many, most first."""
    counts = {label: sum(bins) for label, bins in histograms.items()}
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _chunks(table: pa.Table, name: str) -> Iterator[pa.Array]:
    if name in table.column_names:
        yield from table[name].chunks


def _inner_list(structs: pa.StructArray, name: str) -> pa.StructArray:
    """All elements of a list member, one after another; those under a null struct are no part of it."""
    inner = pc.call_function("struct_field", [structs], pc.StructFieldOptions([name]))
    return inner.flatten()


def _histograms(structs: pa.StructArray) -> Histograms:
    """Of a struct array with `label` and `score`; elements without a label are not counted."""
    labels = structs.field("label").dictionary_encode()
    kept = labels.indices.is_valid().to_numpy(zero_copy_only=False)
    codes = labels.indices.fill_null(0).to_numpy()[kept].astype(np.int64)
    scores = structs.field("score").to_numpy(zero_copy_only=False)[kept]
    names = cast("list[str]", labels.dictionary.to_pylist())
    counts = np.bincount(codes * (BINS + 1) + _bins(scores), minlength=len(names) * (BINS + 1))
    found: Histograms = {}
    for name, bins in zip(names, counts.reshape(-1, BINS + 1).tolist(), strict=True):
        _add(found, {name[:_LONGEST]: bins})
    return found


def _bins(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Number of each score's bin; BINS where there is none (null arrives as NaN)."""
    missing = np.isnan(scores)
    numbers = np.floor(np.where(missing, 0, scores).astype(np.float64) * BINS).astype(np.int64)
    return np.where(missing, BINS, np.clip(numbers, 0, BINS - 1))


def _add(target: Histograms, source: Histograms) -> None:
    for label, bins in source.items():
        known = label if label in target or len(target) < MOST_LABELS else OTHER
        into = target.setdefault(known, [0] * (BINS + 1))
        for number, count in enumerate(bins):
            into[number] += count
