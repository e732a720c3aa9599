"""Work items become tables: source columns untouched, failures by fragment."""

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luke_batch.config import InputConfig
from luke_batch.corpus.footers import inspect
from luke_batch.corpus.fragments import WorkItem, cut, pack, schema_key
from luke_batch.corpus.read import ReadItem, read_item, read_items
from luke_batch.corpus.sources import list_sources
from luke_batch.corpus.storage import Storage
from luke_batch.document.columns import FRAGMENT, INTERNAL, ROW
from tests.corpora import documents, put


def items(folder: Path, max_rows: int = 4, target_rows: int = 100) -> list[WorkItem]:
    """Work items of a folder, in fragments of `max_rows`."""
    sources = list_sources(str(folder))
    fragments: list[Any] = []
    for file in sources.files:
        footer = inspect(sources.storage, file)
        key = schema_key(footer.schema)
        fragments += [(fragment, key) for fragment in cut(file, footer, max_rows, 10**9)]
    return pack(fragments, target_rows, 10**12)


def source_columns(read: ReadItem) -> pa.Table:
    """The table without internal columns."""
    return read.table.drop_columns([name for name in read.table.column_names if name.startswith(INTERNAL)])


def odd_table() -> pa.Table:
    """One column of each type that tends to get lost."""
    count = 10
    stamps = [dt.datetime(2026, 11, 20, tzinfo=dt.UTC)] * count
    columns = {
        "id": pa.array(range(count), pa.uint64()),
        "text": pa.array([f"t{n}" for n in range(count)], pa.string_view()),
        "large": pa.array([None, "x"] * 5, pa.large_string()),
        "kind": pa.array(["a", "b", None, "c", "a"] * 2).dictionary_encode(),
        "when": pa.array(stamps, pa.timestamp("ns", "Europe/Berlin")),
        "price": pa.array([decimal.Decimal("1.50")] * count, pa.decimal128(9, 2)),
        "nested": pa.array([{"a": [{"b": n}], "c": None} for n in range(count)]),
        "vector": pa.array([[1.0, 2.0], None] * 5, pa.list_(pa.float16(), 2)),
        "empty": pa.nulls(count),
    }
    schema = pa.schema([pa.field(n, c.type, metadata={"about": n}) for n, c in columns.items()], metadata={"made": "x"})
    return pa.table(columns, schema=schema)


def test_source_columns_are_untouched(tmp_path: Path) -> None:
    """Types, values, field metadata and schema metadata are those that pyarrow reads from the whole file."""
    path = put(tmp_path, "a.parquet", odd_table(), row_group_size=3)
    (item,) = items(tmp_path)
    read = read_item(Storage.at(str(tmp_path)), item, InputConfig())
    expected = pq.read_table(path)
    assert source_columns(read).schema.equals(expected.schema, check_metadata=True)
    assert source_columns(read).to_pylist() == expected.to_pylist()
    assert read.failures == ()
    assert read.table[ROW].to_pylist() == list(range(10))


@pytest.mark.parametrize("group", [1, 3, 7, 100])
def test_any_fragment_of_any_row_group(tmp_path: Path, group: int) -> None:
    """Each fragment gets its own rows, with its index and the rows' numbers, however the file is grouped."""
    put(tmp_path, "a.parquet", documents(30), row_group_size=group)
    put(tmp_path, "b.parquet", documents(5, first=30), row_group_size=group)
    storage = Storage.at(str(tmp_path))
    for item in items(tmp_path, target_rows=9):
        table = read_item(storage, item, InputConfig()).table
        expected = [
            (f"d{row + (30 if fragment.source == 'b.parquet' else 0)}", index, row)
            for index, fragment in enumerate(item.fragments)
            for row in range(fragment.row_start, fragment.row_end)
        ]
        assert list(zip(*(table[name].to_pylist() for name in ("id", FRAGMENT, ROW)), strict=True)) == expected


def test_one_pass_over_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items of one row group that are read together open the file once and decode it once."""
    put(tmp_path, "a.parquet", documents(5000), row_group_size=5000)
    opened: list[str] = []
    original = Storage.open
    monkeypatch.setattr(Storage, "open", lambda self, path: opened.append(path) or original(self, path))
    reads = list(read_items(Storage.at(str(tmp_path)), items(tmp_path, 1000, 1000), InputConfig()))
    assert [read.table.num_rows for read in reads] == [1000] * 5
    assert reads[-1].table["id"][-1].as_py() == "d4999"
    assert opened == ["a.parquet"]


def test_items_may_come_in_any_order(tmp_path: Path) -> None:
    """Going back in a file starts afresh."""
    put(tmp_path, "a.parquet", documents(12), row_group_size=6)
    last, first = reversed(items(tmp_path, 3, 3)[:2])
    reads = list(read_items(Storage.at(str(tmp_path)), [last, first, last], InputConfig()))
    assert [read.table["id"][0].as_py() for read in reads] == ["d3", "d0", "d3"]


def test_item_without_rows_has_a_carrier(tmp_path: Path) -> None:
    """A block without rows would never reach the sink: one row with fragment -1 stands in."""
    put(tmp_path, "a.parquet", odd_table().slice(0, 0))
    (item,) = items(tmp_path)
    table = read_item(Storage.at(str(tmp_path)), item, InputConfig()).table
    assert table[FRAGMENT].to_pylist() == table[ROW].to_pylist() == [-1]
    assert table["text"].to_pylist() == [None]
    assert table.schema.field("kind").type == odd_table().schema.field("kind").type


def corrupt(path: Path, needle: bytes) -> None:
    """Damage the bytes after `needle`, which lie inside a data page."""
    content = bytearray(path.read_bytes())
    place = content.index(needle) + len(needle)
    content[place : place + 40] = bytes(255 - byte for byte in content[place : place + 40])
    path.write_bytes(content)


@pytest.mark.parametrize("checksum", [True, False])
def test_corrupt_page(tmp_path: Path, checksum: bool) -> None:
    """A damaged page fails the fragments that need it, naming the file; other row groups and files still
    come.
    """
    path = put(
        tmp_path,
        "a.parquet",
        documents(12),
        row_group_size=4,
        compression="snappy",
        write_page_checksum=checksum,
        use_dictionary=False,
        write_statistics=False,
        column_encoding={"id": "PLAIN", "text": "PLAIN", "year": "PLAIN"},
    )
    put(tmp_path, "b.parquet", documents(3))
    corrupt(path, "Łódź4 grow".encode())
    (item,) = items(tmp_path)
    read = read_item(Storage.at(str(tmp_path)), item, InputConfig())
    assert [failure.fragment for failure in read.failures] == [1]
    assert "a.parquet" in read.failures[0].message
    assert sorted(set(read.table[FRAGMENT].to_pylist())) == [0, 2, 3]


def test_corrupt_page_without_compression_or_checksum(tmp_path: Path) -> None:
    """Nothing in the file tells of the damage: what can be decoded comes, and bad texts are for
    `text_errors`.
    """
    path = put(tmp_path, "a.parquet", documents(12), row_group_size=4, compression="none", use_dictionary=False)
    corrupt(path, "Łódź5".encode())
    (item,) = items(tmp_path)
    read = read_item(Storage.at(str(tmp_path)), item, InputConfig())
    failed = {failure.fragment for failure in read.failures}
    assert failed | set(read.table[FRAGMENT].to_pylist()) == {0, 1, 2}
    assert failed <= {1}


def test_files_that_change_after_planning(tmp_path: Path) -> None:
    """A file that was replaced or removed since the plan fails with a message that says so; others still
    come.
    """
    for name in ("a", "b", "c"):
        put(tmp_path, f"{name}.parquet", documents(3))
    (item,) = items(tmp_path)
    put(tmp_path, "a.parquet", documents(3, first=7))
    (tmp_path / "b.parquet").unlink()
    read = read_item(Storage.at(str(tmp_path)), item, InputConfig())
    messages = {failure.fragment: failure.message for failure in read.failures}
    assert sorted(messages) == [0, 1]
    assert "a.parquet has changed" in messages[0]
    assert "b.parquet has vanished" in messages[1]
    assert read.table["id"].to_pylist() == ["d0", "d1", "d2"]


def test_nothing_readable(tmp_path: Path) -> None:
    """If no fragment can be read, the carrier has the columns of the configuration."""
    path = put(tmp_path, "a.parquet", documents(3))
    (item,) = items(tmp_path)
    path.unlink()
    config = InputConfig(lang_column="lang", mentions_column="given")
    read = read_item(Storage.at(str(tmp_path)), item, config)
    assert len(read.failures) == 1
    assert read.table.column_names == ["id", "text", "lang", "given", FRAGMENT, ROW]
    assert read.table[FRAGMENT].to_pylist() == [-1]


def test_pandas_files_of_different_length_share_a_table(tmp_path: Path) -> None:
    """Files written by pandas differ in the row count of their metadata and are packed all the same."""
    for name, count in (("a", 2), ("b", 3)):
        documents(count).to_pandas().to_parquet(tmp_path / f"{name}.parquet")
    (item,) = items(tmp_path)
    assert read_item(Storage.at(str(tmp_path)), item, InputConfig()).table.num_rows == 5


def test_dictionaries_of_batches_are_united(tmp_path: Path) -> None:
    """A dictionary column that is read in several batches has one dictionary."""
    values = pa.array([f"v{n % 7}" for n in range(5000)])
    put(
        tmp_path,
        "a.parquet",
        documents(5000).append_column("kind", values.dictionary_encode()),
        row_group_size=999,
    )
    (item,) = items(tmp_path, 5000, 5000)
    column = read_item(Storage.at(str(tmp_path)), item, InputConfig()).table["kind"]
    assert pa.types.is_dictionary(column.type)
    assert {str(chunk.dictionary) for chunk in column.chunks} == {str(column.chunk(0).dictionary)}
    assert column.to_pylist() == values.to_pylist()
