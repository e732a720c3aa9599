"""Parquet footers: what a file holds, from the few kilobytes at its end.

One ranged read a file as a rule, a second one where the footer is longer than the first guess. What they said
of INPUT is noted for the next night, so that an unchanged file need not be opened to be found done:

    OUTPUT/_luke_batch/footers.arrow     path, size, version -> content id, footer id, digest, rows, bytes

That is derived: without it every footer is read. A file is taken for the one that was read only where path,
size and version are the same. The version is the ETag of an object store, or modification time, inode and
change time of a local file, of which the last cannot be set by a program. The version of a file that was
written within two seconds of the listing is never noted, since a second write might bear the same time.
Which content a file of another version has is the business of `edits.py`.
"""

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.errors import FragmentError
from luke_batch.corpus.storage import FOOTERS, Storage, StoredFile

_MAGIC = b"PAR1"
_TRAILER = 8
"""Bytes after the footer: its length (4, little endian) and the magic."""
SMALLEST = len(_MAGIC) + _TRAILER
"""Bytes that even an empty Parquet file has."""
_FIRST_READ = 64 * 2**10
_LOCAL_THREADS = 4
_REMOTE_THREADS = 32
_MOST_IN_A_BATCH = 64
_BATCHES_AT_ONCE = 128
CONTENT_ID_CHARACTERS = 12
_SETTLED_SECONDS = 2.0
_TEXT, _NUMBER = pa.string(), pa.int64()
_KNOWN_BEFORE = pa.schema(
    {"path": pa.binary(), "size": _NUMBER, "version": _TEXT, "content_id": _TEXT, "rows": _NUMBER, "bytes": _NUMBER},
    metadata={"luke_batch.footers": "1"},
)
"""Of 0.1.0: the content id is that of the footer, and nobody has hashed the bytes."""
_KNOWN = pa.schema(
    [*_KNOWN_BEFORE, pa.field("footer_id", _TEXT), pa.field("digest", _TEXT)], metadata={"luke_batch.footers": "2"}
)


@dataclass(frozen=True, slots=True)
class Footer:
    """What the footer of one file says."""

    path: str
    content_id: str
    """Names the content: the footer's id, or another one after an edit that the footer does not show."""
    metadata: pq.FileMetaData
    rows: int
    group_rows: tuple[int, ...]
    """Rows of each row group."""
    group_bytes: tuple[int, ...]
    """Uncompressed bytes of each row group."""
    footer_id: str = ""
    """Hash of the file's size and its footer."""
    digest: str | None = None
    """Hash of all bytes, where they had to be read."""

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema as a reader of the file sees it, with its metadata. FragmentError where it has
        none.
        """
        try:
            return self.metadata.schema.to_arrow_schema()
        except (pa.ArrowException, ValueError) as error:
            raise FragmentError(f"{self.path} cannot be read: {' '.join(str(error).split())}") from error


@dataclass(frozen=True, slots=True)
class KnownFooter:
    """One usable file of INPUT."""

    size: int
    version: str
    """Empty where the next plan must not rely on it."""
    content_id: str
    rows: int
    bytes: int
    """Uncompressed bytes of its row groups."""
    footer_id: str
    digest: str | None = None
    """Hash of all bytes of the file; None where nobody has read them yet."""

    def is_of(self, file: StoredFile) -> bool:
        """Whether the file is the one that was read."""
        return self.size == file.size and self.version == file.version


@dataclass(frozen=True, slots=True)
class Tail:
    """The last bytes of a file: its footer and what says how long that is."""

    path: str
    size: int
    """Of the whole file."""
    content: bytes


Trial = Callable[[Sequence[Tail]], "Sequence[FragmentError | None]"]
"""Parses footers where a crash does no harm: the error of each that must not be parsed here."""


def inspect(storage: Storage, file: StoredFile) -> Footer:
    """Read the footer of `file`.

    Raises:
        FragmentError: there is no complete Parquet footer, or the file cannot be read.
    """
    with _named(file):
        return parse(_read_tail(storage, file))


def inspect_all(
    storage: Storage,
    files: Sequence[StoredFile],
    then: Callable[[StoredFile, Footer], Footer] | None = None,
    trial: Trial | None = None,
) -> Iterator[Footer | FragmentError]:
    """Footers of `files` in their order, read in parallel; the error itself where a file cannot be used.

    then: changes each in the thread that read it. trial: asked before any is parsed.
    """
    threads = _LOCAL_THREADS if storage.is_local else _REMOTE_THREADS
    # A future costs as much as a local footer, so a thread gets several files at once where there are many.
    size = max(1, min(_MOST_IN_A_BATCH, len(files) // (4 * threads)))
    batches = [files[start : start + size] for start in range(0, len(files), size)]
    with ThreadPoolExecutor(threads, thread_name_prefix="footers") as pool:
        # Not all at once: the footers of wide files take megabytes each.
        for start in range(0, len(batches), _BATCHES_AT_ONCE):
            window = batches[start : start + _BATCHES_AT_ONCE]
            for found in pool.map(partial(_footers_or_errors, storage, then, trial), window):
                yield from found


def footers_of(storage: Storage, files: Sequence[StoredFile]) -> Iterator[Footer]:
    """As `inspect_all`; raises the FragmentError of the first file that cannot be used."""
    for footer in inspect_all(storage, files):
        if isinstance(footer, FragmentError):
            raise footer
        yield footer


def is_whole(storage: Storage, file: StoredFile) -> bool | None:
    """Whether a file ends as Parquet does; None where it is gone by now. An object is put as a whole, so a
    store need not be asked.
    """
    if file.size < SMALLEST:
        return False
    if not storage.is_local:
        return True
    try:
        tail = storage.read_range(file.path, file.size - _TRAILER, file.size)
    except FileNotFoundError:  # removed since
        return None
    return tail.endswith(_MAGIC) and int.from_bytes(tail[:4], "little") <= file.size - SMALLEST


def content_hash(*parts: bytes) -> str:
    """Hexadecimal content id of `parts`, one after another."""
    return hashlib.blake2b(b"".join(parts), digest_size=CONTENT_ID_CHARACTERS // 2).hexdigest()


def is_settled(file: StoredFile, listed: float) -> bool:
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
    if table.schema.equals(_KNOWN_BEFORE, check_metadata=True):
        footer_ids, unread = table["content_id"], pa.nulls(len(table), _TEXT)
        table = table.append_column("footer_id", footer_ids).append_column("digest", unread)
    elif not table.schema.equals(_KNOWN, check_metadata=True):
        return {}
    rows = cast("list[dict[str, Any]]", table.to_pylist())
    return {row.pop("path").decode("utf-8", "surrogateescape"): KnownFooter(**row) for row in rows}


def write_known_footers(output: Storage, known: Mapping[str, KnownFooter]) -> None:
    """Replace those of earlier runs."""
    rows = [{"path": path.encode("utf-8", "surrogateescape"), **asdict(each)} for path, each in sorted(known.items())]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _KNOWN) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=_KNOWN))
    output.write_atomic(FOOTERS, sink.getvalue())


def _footers_or_errors(
    storage: Storage,
    then: Callable[[StoredFile, Footer], Footer] | None,
    trial: Trial | None,
    files: Sequence[StoredFile],
) -> list[Footer | FragmentError]:
    tails: list[Tail | FragmentError] = []
    for file in files:
        try:
            with _named(file):
                tails.append(_read_tail(storage, file))
        except FragmentError as error:
            tails.append(error)
    tried = iter(trial([tail for tail in tails if isinstance(tail, Tail)]) if trial else ())
    found: list[Footer | FragmentError] = []
    for file, tail in zip(files, tails, strict=True):
        refused = None if isinstance(tail, FragmentError) else next(tried, None)
        try:
            if isinstance(tail, FragmentError):
                raise tail
            if refused is not None:
                raise refused
            with _named(file):
                footer = parse(tail)
            found.append(footer if then is None else then(file, footer))
        except FragmentError as error:
            found.append(error)
    return found


@contextmanager
def _named(file: StoredFile) -> Generator[None]:
    """In this block whatever goes wrong with a file is a FragmentError that names it."""
    try:
        yield
    except FragmentError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        raise FragmentError(f"{file.path} cannot be read: {' '.join(str(error).split())}") from error


def _read_tail(storage: Storage, file: StoredFile) -> Tail:
    if file.size < SMALLEST:
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
    return Tail(file.path, file.size, tail[-length:])


def parse(tail: Tail) -> Footer:
    """What a footer says. FragmentError, or what pyarrow raises, where it says nothing."""
    # Only the footer is handed over: nobody follows its offsets into the missing data.
    metadata = pq.ParquetFile(pa.BufferReader(_MAGIC + tail.content), pre_buffer=False).metadata
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    rows = tuple(group.num_rows for group in groups)
    if metadata.num_rows != sum(rows) or any(count < 0 for count in rows):
        raise FragmentError(f"{tail.path} is corrupt: its row groups do not add up to {metadata.num_rows} rows")
    footer_id = content_hash(str(tail.size).encode(), tail.content)
    return Footer(
        path=tail.path,
        content_id=footer_id,
        footer_id=footer_id,
        metadata=metadata,
        rows=metadata.num_rows,
        group_rows=rows,
        group_bytes=tuple(max(0, group.total_byte_size) for group in groups),
    )
