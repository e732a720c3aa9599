"""The finished table as one Parquet file, whole or not at all."""

import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.contracts import load_contract
from luke_batch.base.errors import OutputError
from luke_batch.corpus.storage import Storage


def write_table(table: pa.Table, out: str) -> None:
    """Create or replace `out` (a local path or a URL) with a table of schemas/aliases.v1.json.

    Raises OutputError where it cannot be written.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table.cast(load_contract("aliases").schema()), sink, compression="zstd")
    try:
        _replace(out, sink.getvalue())
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error}; choose another path or free space") from error


def _replace(out: str, content: pa.Buffer) -> None:
    folder, _, name = out.rpartition("/")
    if "://" in out and not out.startswith("file://"):
        Storage.at(folder).write_atomic(name, content)
        return
    target = Path(out.removeprefix("file://")).expanduser()
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(memoryview(content))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
