"""How files are cut, named and packed."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.corpus.committed import covers, gaps, tiling
from luke_batch.corpus.footers import Footer
from luke_batch.corpus.fragments import (
    MOST_FRAGMENTS,
    Fragment,
    WorkItem,
    cut,
    pack,
    reading_groups,
    schema_key,
    work_items,
)
from luke_batch.corpus.output_file import Key
from luke_batch.corpus.storage import StoredFile
from tests.corpora import documents

SOURCE = StoredFile("date=2026-11-20/a.parquet", 1000, "v", 0.0)
GROUPS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5000)), max_size=12)
RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda pair: (pair[0], sum(pair))), max_size=6)


def footer(groups: list[tuple[int, int]]) -> Footer:
    """A footer with row groups of (rows, bytes)."""
    rows = tuple(count for count, _ in groups)
    sizes = tuple(size if count else 0 for count, size in groups)
    return Footer("a", "0123456789ab", None, sum(rows), rows, sizes)


@given(GROUPS, st.integers(1, 40), st.integers(1, 6000))
def test_cut_holds_each_row_once(groups: list[tuple[int, int]], max_rows: int, max_bytes: int) -> None:
    """Fragments follow one another from the first row to the last; none exceeds a limit unless it is a single
    row.
    """
    whole = footer(groups)
    fragments = cut(SOURCE, whole, max_rows, max_bytes)
    ends = [0, *(fragment.row_end for fragment in fragments)]
    assert [fragment.row_start for fragment in fragments] == ends[:-1]
    assert ends[-1] == whole.rows
    assert sum(fragment.bytes for fragment in fragments) <= sum(whole.group_bytes)
    for fragment in fragments:
        assert fragment.rows > 0 or whole.rows == 0
        assert fragment.rows <= max_rows
        assert fragment.rows == 1 or fragment.bytes <= 2 * max_bytes  # equal parts differ by a row
        assert fragment.group_start <= fragment.row_start


@given(GROUPS, st.integers(1, 40))
def test_fragments_end_with_groups_or_lie_within_one(groups: list[tuple[int, int]], max_rows: int) -> None:
    """A fragment starts inside a row group only if it ends in the same one: no group is decoded for two
    files' sake.
    """
    starts = [sum(rows for rows, _ in groups[:index]) for index in range(len(groups) + 1)]
    for fragment in cut(SOURCE, footer(groups), max_rows, 10**9):
        if fragment.row_start not in starts:
            following = min(start for start in starts if start > fragment.row_start)
            assert fragment.row_end <= following
            assert fragment.group_start in starts


def test_file_without_rows() -> None:
    """A file without rows is one empty fragment, with or without row groups."""
    for groups in ([], [(0, 0)]):
        (fragment,) = cut(SOURCE, footer(groups), 10, 100)
        assert (fragment.row_start, fragment.row_end) == (0, 0)


def test_big_group_is_cut_evenly_and_small_ones_are_joined() -> None:
    """A group of 1,200 rows becomes 600 + 600 and not 1,000 + 200; small groups share a fragment."""
    ranges = [
        (f.row_start, f.row_end) for f in cut(SOURCE, footer([(300, 1), (300, 1), (1200, 1), (10, 1)]), 1000, 10**6)
    ]
    assert ranges == [(0, 600), (600, 1200), (1200, 1800), (1800, 1810)]


@given(
    st.integers(0, 10**12 - 1),
    st.integers(0, 10**12 - 1),
    st.text(max_size=20),
    st.text("0123456789abcdef", min_size=1),
)
def test_names_parse_back(start: int, end: int, path: str, fingerprint: str) -> None:
    """A name tells the rows, the content and the fingerprint; the key of the whole file is another one."""
    fragment = Fragment(path, "", start, end, "0123456789ab", 5, 1, 0)
    key = fragment.key(fingerprint)
    assert Key.parse(f"some/where/{key.name}") == key
    of_file = Key.of(path, "0123456789ab", fingerprint)
    assert Key.parse(str(of_file)) == of_file
    assert of_file != key


@pytest.mark.parametrize("name", ["part-0000.parquet", "x", "", "0" * 60 + ".parquet"])
def test_foreign_names(name: str) -> None:
    """A name that is not ours has no key."""
    assert Key.parse(name) is None


def test_output_keeps_the_partition() -> None:
    """The output file lies in its source's partition."""
    (fragment,) = cut(SOURCE, footer([]), 10, 100)
    path = fragment.output_path("abc")
    assert path.startswith("data/date=2026-11-20/")
    assert path.endswith("-000000000000-000000000000-0123456789ab-abc.parquet")


@given(RANGES, st.integers(0, 80))
def test_gaps_are_what_ranges_leave_out(ranges: list[tuple[int, int]], rows: int) -> None:
    """Gaps and ranges together hold every row; gaps hold none that a range holds."""
    left = gaps(ranges, 0, rows)
    inside = {row for start, end in left for row in range(start, end)}
    held = {row for start, end in ranges for row in range(start, end)}
    assert inside == set(range(rows)) - held
    assert covers(ranges, rows) == (bool(ranges) and not inside)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=7))
def test_tiling(pairs: list[tuple[int, int]]) -> None:
    """Of overlapping ranges, disjoint ones are chosen that hold the most rows, and as few as can be."""
    ranges = [(start, start + length) for start, length in pairs]

    def worth(chosen: Sequence[tuple[int, int]]) -> tuple[int, int]:
        return sum(end - start for start, end in chosen), -len(chosen)

    def disjoint(chosen: Sequence[tuple[int, int]]) -> bool:
        return all(before[1] <= after[0] for before, after in pairwise(sorted(chosen)))

    found = tiling(ranges)
    assert disjoint(found)
    assert set(found) <= set(ranges)
    subsets = (chosen for n in range(8) for chosen in combinations(set(ranges), n) if disjoint(chosen))
    assert worth(found) == max(map(worth, subsets))


def test_tiling_prefers_a_merged_file() -> None:
    """While parts and their merged file are both there, the merged one is taken; one empty range stays."""
    assert tiling([(0, 4), (4, 8), (0, 8), (8, 9)]) == [(0, 8), (8, 9)]
    assert tiling([(0, 0)]) == [(0, 0)]
    assert tiling([]) == []


def test_what_is_left_of_a_fragment() -> None:
    """Rows that are committed under another cut are not done twice."""
    fragment = Fragment("a", "", 10, 20, "c", 30, 100, 0)
    assert fragment.without([(0, 10), (20, 30)]) == [fragment]
    assert [(f.row_start, f.row_end, f.bytes) for f in fragment.without([(12, 15)])] == [
        (10, 12, 20),
        (15, 20, 50),
    ]
    assert fragment.without([(0, 30)]) == []
    empty = Fragment("a", "", 0, 0, "c", 0, 0, 0)
    assert empty.without([]) == [empty]
    assert empty.without([(0, 0)]) == []


def piece(source: str, start: int, end: int, partition: str = "", group: int = 0) -> Fragment:
    """A fragment of one byte a row."""
    return Fragment(source, partition, start, end, "c", 100, end - start, group)


def test_packing() -> None:
    """Items hold fragments of one schema and the same partition keys, in order, up to the target."""
    fragments = [
        (piece("a", 0, 4), "s"),
        (piece("b", 0, 4), "s"),
        (piece("c", 0, 4), "other"),
        (piece("d", 0, 4), "s"),
        (piece("e", 0, 2), "other"),
        (piece("p=1/f", 0, 1, "p=1"), "s"),
        (piece("g", 0, 9), "s"),
        (piece("p=2/h", 0, 1, "p=2"), "s"),
    ]
    items = pack(fragments, max_rows=10, max_bytes=8)
    assert [[f.source for f in item.fragments] for item in items] == [
        ["a", "b"],
        ["c", "e"],
        ["d"],
        ["p=1/f", "p=2/h"],
        ["g"],
    ]
    assert items[0].rows == 8


@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=200))
def test_few_rows_are_several_items(counts: list[int]) -> None:
    """Small files are not all one item, which one actor would work on alone, and no item is tiny."""
    fragments = [(piece(f"{number:03}", 0, count), "s") for number, count in enumerate(counts)]
    items = work_items(fragments, max_rows=1000, max_bytes=10**9)
    assert [part for item in items for part in item.fragments] == [fragment for fragment, _ in fragments]
    share = max(16, sum(counts) // 32)
    assert all(item.rows <= max(share, *(part.rows for part in item.fragments)) for item in items)
    assert all(one.rows + two.fragments[0].rows > share for one, two in pairwise(items))


@given(rows=st.integers(512, 3000))
def test_small_files_make_at_least_so_many_items(rows: int) -> None:
    """However the rows divide."""
    fragments = [(piece(f"{number:04}", 0, 1), "s") for number in range(rows)]
    assert len(work_items(fragments, max_rows=1000, max_bytes=10**9)) >= 32


def test_an_item_is_bounded_whatever_its_rows() -> None:
    """Files without rows reach no target, and still do not all become one item."""
    fragments = [(piece(f"p={number}/a", 0, 0, f"p={number}"), "s") for number in range(2 * MOST_FRAGMENTS + 1)]
    items = pack(fragments, max_rows=10, max_bytes=8)
    assert [len(item.fragments) for item in items] == [MOST_FRAGMENTS, MOST_FRAGMENTS, 1]


def test_items_travel_as_json() -> None:
    """An item survives its JSON form."""
    item = WorkItem((piece("ä/b", 0, 4), piece("c", 4, 8, "p=1")))
    assert WorkItem.from_json(item.to_json()) == item


def test_items_of_one_row_group_are_read_in_one_pass() -> None:
    """Items that start inside a row group follow the item in which the group starts."""
    items = [
        WorkItem((piece("a", 0, 4),)), WorkItem((piece("a", 4, 8),)), WorkItem((piece("a", 8, 12, group=8),)),
        WorkItem((piece("a", 12, 16, group=8), piece("b", 0, 2))), WorkItem((piece("c", 5, 6),)),
    ]  # fmt: skip
    assert [len(group) for group in reading_groups(items)] == [2, 2, 1]


def test_schema_key() -> None:
    """Files share an item only with the same columns, types, order and metadata; pandas' row count does not
    matter.
    """
    table = documents(3)
    key = schema_key(table.schema)
    assert schema_key(table.select(["text", "id", "year"]).schema) != key
    assert schema_key(table.schema.set(0, pa.field("id", pa.large_string()))) != key
    assert schema_key(table.schema.with_metadata({"made": "by hand"})) != key
    frame = table.to_pandas()
    one, two = (pa.Table.from_pandas(part).schema for part in (frame, frame.iloc[:2]))
    assert one.metadata != two.metadata
    assert schema_key(one) == schema_key(two)
