"""A work item as one Ray row.

Each row is one work item and never a document: its item and its failed fragments as JSON, its table as one
Arrow IPC stream in a large_binary value. So Ray never sees, converts or splits users' columns (it would turn
tensors, nulls and nested types into its own), an item without documents still reaches the sink (a Ray block
without rows would not), and a work item stays one block all the way. A read takes the bytes where they lie in
the object store: nothing is copied.
"""

import json
from dataclasses import asdict

import pyarrow as pa

from luke_batch.corpus.fragments import WorkItem
from luke_batch.corpus.read import ReadFailure, ReadItem

ITEM = "item"
TABLE = "table"
FAILURES = "failures"


def encode(item: ReadItem) -> pa.Table:
    """One row."""
    failures = json.dumps([asdict(failure) for failure in item.failures])
    columns = {
        ITEM: pa.array([item.item.to_json()], pa.string()),
        TABLE: _large_binary(_to_stream(item.table)),
        FAILURES: pa.array([failures], pa.string()),
    }
    return pa.table(columns)


def decode(row: pa.Table) -> ReadItem:
    """What `encode` wrote."""
    return ReadItem(
        WorkItem.from_json(row[ITEM][0].as_py()),
        decode_table(row),
        tuple(ReadFailure(**failure) for failure in json.loads(row[FAILURES][0].as_py())),
    )


def decode_table(row: pa.Table) -> pa.Table:
    """The table of a work item."""
    with pa.ipc.open_stream(row[TABLE][0].as_buffer()) as reader:
        return reader.read_all()


def replace_table(row: pa.Table, table: pa.Table) -> pa.Table:
    """The same work item with another table."""
    position = row.schema.get_field_index(TABLE)
    return row.set_column(position, TABLE, _large_binary(_to_stream(table)))


def _to_stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _large_binary(buffer: pa.Buffer) -> pa.Array:
    """One large_binary value over `buffer`, which is not copied."""
    offsets = pa.array([0, buffer.size], pa.int64())
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets.buffers()[1], buffer])
