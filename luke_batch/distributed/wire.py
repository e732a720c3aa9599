"""A work item as one Ray row.

Each row is one work item and never a document: its item, its failed fragments and what was counted on its way as JSON,
its table as one Arrow IPC stream in a large_binary value. So Ray never sees, converts or splits users' columns (it
would turn tensors, nulls and nested types into its own), an item without documents still reaches the sink (a Ray block
without rows would not), and a work item stays one block all the way. A read takes the bytes where they lie in the
object store: nothing is copied.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

import pyarrow as pa

from luke_batch.base import meters
from luke_batch.corpus.fragments import WorkItem
from luke_batch.corpus.read import ReadFailure, ReadItem
from luke_batch.isolation.messages import from_stream, to_stream

ITEM = "item"
TABLE = "table"
FAILURES = "failures"
METERS = "meters"

Readings = dict[str, meters.Counts]
"""What was counted, by the model whose actors did; under "" what the tasks around them did."""


def encode(item: ReadItem) -> pa.Table:
    """One row."""
    failures = json.dumps([asdict(failure) for failure in item.failures])
    columns = {
        ITEM: pa.array([item.item.to_json()], pa.string()),
        TABLE: _large_binary(to_stream(item.table)),
        FAILURES: pa.array([failures], pa.string()),
        METERS: pa.array(["{}"], pa.string()),
    }
    return pa.table(columns)


def decode(row: pa.Table) -> ReadItem:
    """What `encode` wrote."""
    return ReadItem(
        WorkItem.from_json(row[ITEM][0].as_py()),
        from_stream(stream_of(row)),
        tuple(ReadFailure(**failure) for failure in json.loads(row[FAILURES][0].as_py())),
    )


def stream_of(row: pa.Table) -> pa.Buffer:
    """The table of a work item, as `isolation.messages` has it."""
    return row[TABLE][0].as_buffer()


def replace_table(row: pa.Table, stream: pa.Buffer) -> pa.Table:
    """The same work item with another table."""
    position = row.schema.get_field_index(TABLE)
    return row.set_column(position, TABLE, _large_binary(stream))


def readings_of(row: pa.Table) -> Readings:
    """What has been counted so far."""
    return json.loads(row[METERS][0].as_py())


def add_counts(row: pa.Table, model: str, counts: Mapping[str, float]) -> pa.Table:
    """The same work item with what was counted on the way to it."""
    readings = readings_of(row)
    meters.add(readings.setdefault(model, {}), counts)
    position = row.schema.get_field_index(METERS)
    return row.set_column(position, METERS, pa.array([json.dumps(readings)], pa.string()))


def _large_binary(buffer: pa.Buffer) -> pa.Array:
    """One large_binary value over `buffer`, which is not copied."""
    offsets = pa.array([0, buffer.size], pa.int64())
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets.buffers()[1], buffer])
