"""A work item survives its way through Ray, whatever its columns are."""

import datetime as dt

import pyarrow as pa
import pytest

from luke_batch.corpus.commit import Committed
from luke_batch.corpus.fragments import Fragment, WorkItem
from luke_batch.corpus.read import ReadFailure, ReadItem
from luke_batch.distributed import wire
from luke_batch.distributed.results import ItemResult
from luke_batch.isolation.messages import to_stream

ITEM = WorkItem((Fragment("lang=de/a.parquet", "lang=de", 0, 3, "c1", 3, 120, 0),))
COLUMNS = {
    "dictionary": pa.array(["a", "b", "a"]).dictionary_encode(),
    "large": pa.array(["a", None, "c"], pa.large_string()),
    "view": pa.array(["a", None, "a text of more than twelve bytes"], pa.string_view()),
    "vectors": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float16(), 2)),
    "nested": pa.array([{"a": [1]}, {"a": None}, None]),
    "nested_dictionary": pa.array([["x"], [], None], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    "times": pa.array([dt.datetime(2026, 11, 20, tzinfo=dt.UTC)] * 3, pa.timestamp("ns", "UTC")),
    "nothing": pa.nulls(3),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_come_back_as_they_were(name: str) -> None:
    """Types that Ray would convert, values and metadata pass unchanged."""
    schema = pa.schema([pa.field(name, COLUMNS[name].type, metadata={"k": "v"})], metadata={"pandas": "{}"})
    table = pa.Table.from_arrays([COLUMNS[name]], schema=schema)
    back = wire.decode(wire.encode(ReadItem(ITEM, table, ())))
    assert back.table.schema.equals(schema, check_metadata=True)
    assert back.table.to_pylist() == table.to_pylist()
    back.table.validate(full=True)


def test_item_and_failures_come_back() -> None:
    """The sink learns which fragments could not be read."""
    failures = (ReadFailure(0, "ArrowInvalid", 'a "quoted" märchen\u2028'),)
    back = wire.decode(wire.encode(ReadItem(ITEM, pa.table({"a": [1]}), failures)))
    assert (back.item, back.failures) == (ITEM, failures)


def test_one_row_whatever_the_item_holds() -> None:
    """Even a table without rows is one row for Ray, which would drop an empty block."""
    row = wire.encode(ReadItem(ITEM, pa.table({"a": pa.array([], pa.string())}), ()))
    assert row.num_rows == 1
    assert wire.decode(row).table.num_rows == 0


def test_slices_are_not_sent_whole() -> None:
    """Only the rows of the item travel, not the file that they were cut from."""
    big = pa.table({"a": ["x" * 1000] * 1000})
    assert wire.encode(ReadItem(ITEM, big.slice(10, 1), ())).nbytes < 5000


def test_several_chunks_with_dictionaries_of_their_own() -> None:
    """Batches of one file may bring a dictionary each."""
    chunks = [pa.array([["x"]]).cast(pa.list_(pa.dictionary(pa.int32(), pa.string()))) for _ in range(2)]
    table = pa.table({"a": pa.chunked_array(chunks)})
    assert wire.decode(wire.encode(ReadItem(ITEM, table, ()))).table.to_pylist() == table.to_pylist()


def test_a_replaced_table_leaves_the_item_alone() -> None:
    """A model stage changes the table and nothing else."""
    row = wire.encode(ReadItem(ITEM, pa.table({"a": [1]}), (ReadFailure(0, "E", "m"),)))
    back = wire.decode(wire.replace_table(row, to_stream(pa.table({"b": [2, 3]}))))
    assert back.item == ITEM
    assert back.failures == (ReadFailure(0, "E", "m"),)
    assert back.table.to_pydict() == {"b": [2, 3]}


def test_results_come_back() -> None:
    """What the driver counts is what the sink has committed."""
    done = Committed("data/k.parquet", "a.parquet", 8, 2, 999, "v", 1, {"mentions": "source_mentions"})
    results = [ItemResult((done,), 1), ItemResult((), 0, "ContractError: broken")]
    rows = pa.concat_tables([result.to_row() for result in results])
    assert ItemResult.from_rows(rows) == results
    assert (results[0].rows, results[0].dead) == (10, 3)
