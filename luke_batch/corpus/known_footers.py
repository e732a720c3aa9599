"""What footers said on earlier nights, so that an unchanged file need not be opened to be found done.

    OUTPUT/_luke_batch/footers.arrow     path, size, version -> content id, rows, bytes

Derived, and safe to delete: without it every footer is read. A file is taken for the one that was read only
where path, size and version are the same. The version is the ETag of an object store, or modification time,
inode and change time of a local file, of which the last cannot be set by a program. A file that was written
within two seconds of the listing is never noted, since a second write might bear the same time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from luke_batch.corpus.layout import FOOTERS
from luke_batch.corpus.sources import SourceFile
from luke_batch.corpus.storage import Storage

_SETTLED_SECONDS = 2.0
_SCHEMA = pa.schema(
    [
        ("path", pa.binary()),
        ("size", pa.int64()),
        ("version", pa.string()),
        ("content_id", pa.string()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
    ],
    metadata={"luke_batch.footers": "1"},
)


@dataclass(frozen=True, slots=True)
class KnownFooter:
    """One usable file of INPUT."""

    size: int
    version: str
    content_id: str
    rows: int
    bytes: int
    """Uncompressed bytes of its row groups."""

    def is_of(self, file: SourceFile) -> bool:
        """Whether the file is the one that was read."""
        return self.size == file.size and self.version == file.version


def is_settled(file: SourceFile, listed: float) -> bool:
    """Whether the file was last written well before `listed` (seconds since the epoch)."""
    return file.modified + _SETTLED_SECONDS < listed


def read_known_footers(output: Storage) -> dict[str, KnownFooter]:
    """Those of earlier runs by path; none where there are none, or where they cannot be read."""
    try:
        if output.stat(FOOTERS) is None:
            return {}
        with pa.ipc.open_file(pa.BufferReader(output.read_bytes(FOOTERS))) as reader:
            table = reader.read_all()
    except (OSError, pa.ArrowException):
        return {}
    if not table.schema.equals(_SCHEMA, check_metadata=True):
        return {}
    paths, *columns = (column.to_pylist() for column in table.columns)
    rows = zip(*columns, strict=True)
    return {_text(path): KnownFooter(*row) for path, row in zip(paths, rows, strict=True)}


def write_known_footers(output: Storage, known: Mapping[str, KnownFooter]) -> None:
    """Replace those of earlier runs."""
    rows = sorted(known.items())
    columns = [
        [path.encode("utf-8", "surrogateescape") for path, _ in rows],
        *([getattr(footer, name) for _, footer in rows] for name in _SCHEMA.names[1:]),
    ]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    output.write_atomic(FOOTERS, sink.getvalue())


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
