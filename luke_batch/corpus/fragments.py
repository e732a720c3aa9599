"""Fragments, the unit of commit, and work items, the unit of scheduling.

A fragment is a row range of one file. Row groups are packed whole into a fragment while they fit; a group
that exceeds a limit is cut into equal parts. So the cut depends on the file and the two limits alone, and a
fragment either ends with a row group or lies within one.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, Self, cast

import pyarrow as pa

from luke_batch.corpus.committed import gaps
from luke_batch.corpus.footers import Footer
from luke_batch.corpus.output_file import Key, Range, for_rows
from luke_batch.corpus.sources import partition_values
from luke_batch.corpus.storage import StoredFile

MOST_FRAGMENTS = 256
"""Fragments of a work item: Ray's share of an item is nothing beside opening and writing so many files, and
files without rows would otherwise all be one item.
"""

_ITEMS = 32
"""Work items to make of a corpus at least, where its fragments allow: so that the actors of some machines all
have work, and none works alone for long at the end.
"""
_LEAST_ROWS = 16
"""Rows of a work item all the same: a second of work of one core or more, beside Ray's 50 ms."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """Rows [row_start, row_end) of one source file."""

    source: str
    """Path relative to INPUT."""
    partition: str
    """`key=value` folders of the path; the output keeps them."""
    row_start: int
    row_end: int
    content_id: str
    file_rows: int
    """Rows of the whole file."""
    bytes: int
    """Uncompressed, by the footer, averaged within a row group."""
    group_start: int
    """First row of the row group in which the fragment starts, or of one before: reading starts there."""
    footer_id: str = ""
    """Of the planned file, see `Footer`; empty: not compared."""
    written: str = ""
    """Of the planned file, see `StoredFile`; empty: not compared."""
    replaces: str | None = None
    """Version of the output file of these rows that is done again; None: there is none."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.row_end - self.row_start

    def key(self, fingerprint: str) -> Key:
        """Names the output and the dead letters of this fragment."""
        return Key.of(self.source, self.content_id, fingerprint, (self.row_start, self.row_end))

    def output_path(self, fingerprint: str) -> str:
        """The output file, relative to OUTPUT."""
        return self.key(fingerprint).output_path(self.partition)

    def part(self, first: int, last: int) -> Self:
        """Rows [first, last) of it; itself where these are all."""
        if last - first == self.rows:
            return self
        return replace(self, row_start=first, row_end=last, bytes=self.bytes * (last - first) // self.rows)

    def without(self, covered: Sequence[Range]) -> list[Self]:
        """What is left of this fragment outside `covered`; itself where nothing of it is covered."""
        if self.rows == 0:
            return [] if (0, 0) in covered else [self]
        return [self.part(first, last) for first, last in gaps(covered, self.row_start, self.row_end)]


@dataclass(frozen=True, slots=True)
class WorkItem:
    """Fragments of one schema that are read, annotated and committed together."""

    fragments: tuple[Fragment, ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(fragment.rows for fragment in self.fragments)

    def to_json(self) -> str:
        """A string that `from_json` reads."""
        return json.dumps([asdict(fragment) for fragment in self.fragments])

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The item that `to_json` wrote."""
        return cls(tuple(Fragment(**entry) for entry in cast("list[dict[str, Any]]", json.loads(text))))


def cut(source: StoredFile, footer: Footer, max_rows: int, max_bytes: int) -> list[Fragment]:
    """Fragments of one file in order; together they hold each row once. Without rows: one empty fragment."""
    fragments: list[Fragment] = []

    def close(start: int, end: int, size: int, group: int) -> None:
        fragments.append(_fragment(source, footer, (start, end), size, group))

    start = size = row = 0
    for rows, group_bytes in zip(footer.group_rows, footer.group_bytes, strict=True):
        if row > start and (row + rows - start > max_rows or size + group_bytes > max_bytes):
            close(start, row, size, start)
            start, size = row, 0
        parts = max(_divide(rows, max_rows), min(rows, _divide(group_bytes, max_bytes)), 1)
        if parts > 1:
            ends = [row + rows * part // parts for part in range(parts + 1)]
            for first, last in pairwise(ends):
                close(first, last, group_bytes * (last - first) // rows, row)
            start = row + rows
        else:
            size += group_bytes
        row += rows
    if row > start or not fragments:
        close(start, row, size, start)
    return fragments


def whole_range(source: StoredFile, footer: Footer, rows: Range) -> Fragment:
    """The fragment of exactly these rows of a file, whatever the limits: one that is committed already."""
    start, end = rows
    starts = list(accumulate(footer.group_rows, initial=0))
    groups = zip(starts, footer.group_rows, footer.group_bytes, strict=False)
    size = sum(
        weight * max(0, min(end, first + count) - max(start, first)) // max(1, count) for first, count, weight in groups
    )
    group_start = starts[max(0, bisect_right(starts[:-1], start) - 1)]
    return _fragment(source, footer, rows, size, group_start)


def _fragment(source: StoredFile, footer: Footer, rows: Range, size: int, group_start: int) -> Fragment:
    return Fragment(
        source=source.path,
        partition=source.partition,
        row_start=rows[0],
        row_end=rows[1],
        content_id=footer.content_id,
        file_rows=footer.rows,
        bytes=size,
        group_start=group_start,
        footer_id=footer.footer_id,
        written=source.written,
    )


def pack(fragments: Iterable[tuple[Fragment, str]], max_rows: int, max_bytes: int) -> list[WorkItem]:
    """Work items of `fragments`, each with the key of its schema, in the order of their first fragments.

    Fragments of one schema under the same partition keys share an item up to the two targets and
    `MOST_FRAGMENTS`, whatever the values of these keys; a fragment is never split.
    """
    bins: list[list[Fragment]] = []
    open_bins: dict[tuple[str, frozenset[str]], tuple[list[Fragment], int, int]] = {}
    for fragment, schema in fragments:
        # A key may become a column (`input.lang_column`), and all rows of an item share one table.
        kind = (schema, _partition_keys(fragment.partition))
        content, rows, size = open_bins.get(kind, ([], 0, 0))
        full = rows + fragment.rows > max_rows or size + fragment.bytes > max_bytes
        if not content or full or len(content) == MOST_FRAGMENTS:
            content, rows, size = [], 0, 0
            bins.append(content)
        content.append(fragment)
        open_bins[kind] = (content, rows + fragment.rows, size + fragment.bytes)
    return [WorkItem(tuple(content)) for content in bins]


def work_items(fragments: Sequence[tuple[Fragment, str]], max_rows: int, max_bytes: int) -> list[WorkItem]:
    """As `pack`, with less than `max_rows` in an item where there are few rows in all."""
    rows = sum(fragment.rows for fragment, _ in fragments)
    return pack(fragments, min(max_rows, max(_LEAST_ROWS, rows // _ITEMS)), max_bytes)


def reading_groups(items: Iterable[WorkItem]) -> list[tuple[WorkItem, ...]]:
    """Neighbouring items that one pass should read, because each but the first starts inside a row group.

    Parquet decodes a row group from its first row on: a group of a million rows cut into a thousand items and
    read item by item would be decoded five hundred times over.
    """
    groups: list[list[WorkItem]] = []
    for item in items:
        first = item.fragments[0]
        previous = groups[-1][-1].fragments[-1] if groups else None
        if previous and previous.source == first.source and first.row_start > first.group_start:
            groups[-1].append(item)
        else:
            groups.append([item])
    return [tuple(group) for group in groups]


def schema_key(schema: pa.Schema) -> str:
    """Equal for files whose rows may share a table: same fields in the same order, same metadata.

    The row count that pandas notes in its metadata does not matter.
    """
    text = schema.with_metadata(for_rows(schema.metadata, 0, None)).serialize().to_pybytes()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _divide(amount: int, limit: int) -> int:
    """Parts of at most `limit`."""
    return -(-amount // limit)


@lru_cache(maxsize=1024)
def _partition_keys(partition: str) -> frozenset[str]:
    return frozenset(partition_values(partition))
