"""Counting a corpus by its footers, and drawing from it."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.base.errors import ConfigError, InputError
from luke_batch.config import InputConfig, JobConfig
from luke_batch.corpus.fragments import Fragment, pack
from luke_batch.corpus.read import read_item
from luke_batch.corpus.sample import Census, SampleSize, count, draw
from luke_batch.corpus.sources import Restriction
from luke_batch.corpus.storage import Storage
from tests.corpora import documents, job, put


def census(rows: list[int]) -> Census:
    """Files with so many rows."""
    files = [(Fragment(f"{n}", "", 0, size, "c", size, size, 0), "s") for n, size in enumerate(rows)]
    return Census(Storage.at("."), tuple(files), len(files), ())


@given(st.lists(st.integers(0, 90), min_size=1, max_size=9), st.integers(1, 300), st.integers(0, 99))
def test_blocks_are_rows_of_the_corpus(rows: list[int], wanted: int, seed: int) -> None:
    """Each row at most once, inside its file; as many as asked for, give or take a block, or all; the same
    ones for the same seed.
    """
    known = census(rows)
    drawn = draw(known, wanted, seed)
    found = Counter((f.source, row) for f, _ in drawn for row in range(f.row_start, f.row_end))
    assert max(found.values(), default=1) == 1
    assert all(row < rows[int(source)] for source, row in found)
    assert all(f.rows and f.group_start <= f.row_start for f, _ in drawn)
    total = sum(rows)
    assert min(wanted, total) - 16 < len(found) <= min(wanted + 16, total)
    if wanted >= total:
        assert len(found) == total
    assert drawn == draw(known, wanted, seed)


def test_every_part_has_its_share() -> None:
    """Of a hundred files of 160 documents, a tenth of the documents comes from nearly all."""
    drawn = draw(census([160] * 100), 1600, 3)
    assert len({fragment.source for fragment, _ in drawn}) > 95


@pytest.mark.parametrize(
    ("text", "documents", "rows"),
    [
        ("1%", 50_000, 500),
        ("1%", 10, 10),
        ("1%", 1000, 64),
        ("1%", 10**9, 2000),
        ("100%", 900, 900),
        ("7", 900, 7),
    ],
)
def test_sizes(text: str, documents: int, rows: int) -> None:
    """A share has bounds, a number has none but the corpus."""
    assert SampleSize.parse(text).of(documents) == rows


@pytest.mark.parametrize("text", ["0", "0%", "-3", "101%", "1.5", "many", "", "nan%"])
def test_wrong_sizes(text: str) -> None:
    """Anything else is refused in one line."""
    with pytest.raises(ConfigError, match=r"--sample .*expected a share such as 1%"):
        SampleSize.parse(text)


def test_counts(tmp_path: Path) -> None:
    """Documents, bytes and output files of what can be used; the reasons of bad files; partitions."""
    put(tmp_path, "date=1/a.parquet", documents(10), row_group_size=4)
    put(tmp_path, "date=2/b.parquet", documents(3))
    (tmp_path / "date=2/c.parquet").touch()
    found = count(str(tmp_path), job(4))
    assert (found.documents, len(found.files), found.fragments) == (13, 2, 4)
    assert found.bytes > 0
    assert [reason.split(" is ")[0] for reason in found.bad] == ["date=2/c.parquet"]
    assert count(str(tmp_path), job(), Restriction.parse(["date=1"])).documents == 10
    with pytest.raises(InputError, match="no column 'body'"):
        count(str(tmp_path), JobConfig(input=InputConfig(text_column="body")))


def test_what_is_drawn_can_be_read(tmp_path: Path) -> None:
    """Drawn blocks are fragments that a reader takes, over the ends of files and row groups."""
    put(tmp_path, "a.parquet", documents(10), row_group_size=4)
    put(tmp_path, "b.parquet", documents(20, first=10))
    found = count(str(tmp_path), job())
    items = pack(draw(found, 30, 0), 16, 10**9)
    ids = [i for item in items for i in read_item(found.storage, item, InputConfig()).table["id"].to_pylist()]
    assert sorted(ids) == sorted(f"d{number}" for number in range(30))
