"""Tables as Arrow IPC streams."""

import pyarrow as pa


def to_stream(table: pa.Table) -> pa.Buffer:
    """The bytes of a table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def from_stream(stream: pa.Buffer | bytes) -> pa.Table:
    """The table of `to_stream`; its columns lie where the bytes do."""
    with pa.ipc.open_stream(stream) as reader:
        return reader.read_all()
