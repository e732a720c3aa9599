"""Parquet footers: what a file holds, from the few kilobytes at its end.

One ranged read a file as a rule, a second one where the footer is longer than the first guess.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.errors import FragmentError
from luke_batch.corpus.storage import Storage

_MAGIC = b"PAR1"
_TRAILER = 8
"""Bytes after the footer: its length (4, little endian) and the magic."""
_FIRST_READ = 64 * 2**10
_LOCAL_THREADS = 4
_REMOTE_THREADS = 32
_MOST_IN_A_BATCH = 64
_BATCHES_AT_ONCE = 128
CONTENT_ID_CHARACTERS = 12


class Sized(Protocol):
    """A file by path and size, such as StoredFile and SourceFile."""

    @property
    def path(self) -> str:
        """Relative to the storage's root."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Footer:
    """What the footer of one file says."""

    path: str
    content_id: str
    """Hash of the file's size and its footer: names the content without reading it."""
    metadata: pq.FileMetaData
    rows: int
    group_rows: tuple[int, ...]
    """Rows of each row group."""
    group_bytes: tuple[int, ...]
    """Uncompressed bytes of each row group."""

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema as a reader of the file sees it, with its metadata. FragmentError where it has
        none.
        """
        try:
            return self.metadata.schema.to_arrow_schema()
        except (pa.ArrowException, ValueError) as error:
            raise FragmentError(f"{self.path} cannot be read: {' '.join(str(error).split())}") from error


def inspect(storage: Storage, file: Sized) -> Footer:
    """Read the footer of `file`.

    Raises:
        FragmentError: there is no complete Parquet footer, or the file cannot be read.
    """
    try:
        tail = _read_tail(storage, file)
        return _parse(tail, file)
    except FragmentError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        raise FragmentError(f"{file.path} cannot be read: {' '.join(str(error).split())}") from error


def inspect_all(storage: Storage, files: Sequence[Sized]) -> Iterator[Footer | FragmentError]:
    """Footers of `files` in their order, read in parallel; the error itself where a file cannot be used."""
    threads = _LOCAL_THREADS if storage.is_local else _REMOTE_THREADS
    # A future costs as much as a local footer, so a thread gets several files at once where there are many.
    size = max(1, min(_MOST_IN_A_BATCH, len(files) // (4 * threads)))
    batches = [files[start : start + size] for start in range(0, len(files), size)]
    with ThreadPoolExecutor(threads, thread_name_prefix="footers") as pool:
        # Not all at once: the footers of wide files take megabytes each.
        for start in range(0, len(batches), _BATCHES_AT_ONCE):
            window = batches[start : start + _BATCHES_AT_ONCE]
            for found in pool.map(partial(_footers_or_errors, storage), window):
                yield from found


def content_hash(parts: Iterable[bytes]) -> str:
    """Hexadecimal content id of `parts`."""
    digest = hashlib.blake2b(digest_size=CONTENT_ID_CHARACTERS // 2)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _footers_or_errors(storage: Storage, files: Sequence[Sized]) -> list[Footer | FragmentError]:
    found: list[Footer | FragmentError] = []
    for file in files:
        try:
            found.append(inspect(storage, file))
        except FragmentError as error:
            found.append(error)
    return found


def _read_tail(storage: Storage, file: Sized) -> bytes:
    """Footer and trailer of the file, nothing before them."""
    if file.size < len(_MAGIC) + _TRAILER:
        what = "is empty (zero bytes)" if file.size == 0 else f"has {file.size} bytes"
        raise FragmentError(f"{file.path} {what}, which is no Parquet file")
    tail = storage.read_range(file.path, max(0, file.size - _FIRST_READ), file.size)
    if tail[-4:] != _MAGIC:
        raise FragmentError(f"{file.path} is no complete Parquet file: it does not end in {_MAGIC.decode()}")
    length = int.from_bytes(tail[-_TRAILER:-4], "little") + _TRAILER
    if length > file.size - len(_MAGIC):
        raise FragmentError(f"{file.path} is corrupt: its footer would be longer than the file")
    if length > len(tail):
        tail = storage.read_range(file.path, file.size - length, file.size)
    return tail[-length:]


def _parse(tail: bytes, file: Sized) -> Footer:
    # Only the footer is handed over: nobody follows its offsets into the missing data.
    metadata = pq.ParquetFile(pa.BufferReader(_MAGIC + tail), pre_buffer=False).metadata
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    rows = tuple(group.num_rows for group in groups)
    if metadata.num_rows != sum(rows) or any(count < 0 for count in rows):
        raise FragmentError(f"{file.path} is corrupt: its row groups do not add up to {metadata.num_rows} rows")
    return Footer(
        path=file.path,
        content_id=content_hash((str(file.size).encode(), tail)),
        metadata=metadata,
        rows=metadata.num_rows,
        group_rows=rows,
        group_bytes=tuple(max(0, group.total_byte_size) for group in groups),
    )
