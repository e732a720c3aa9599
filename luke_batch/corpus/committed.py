"""What OUTPUT holds, by its names alone, and on a local disk by whether a file has its end."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from luke_batch.corpus.keys import Key
from luke_batch.corpus.layout import DATA, DEAD_LETTERS
from luke_batch.corpus.ranges import tiling
from luke_batch.corpus.storage import Storage, StoredFile

_MAGIC = b"PAR1"
_TRAILER = 8
"""Bytes at the end of a Parquet file: the footer's length and the magic."""
_SMALLEST = len(_MAGIC) + _TRAILER
"""Bytes that even an empty Parquet file has."""


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """An output file or a dead-letter file with what its name says."""

    key: Key
    file: StoredFile

    @property
    def partition(self) -> str:
        """`key=value` folders of an output file."""
        return partition_of(self.file.path)


@dataclass(frozen=True, slots=True)
class DataListing:
    """Everything that ends in .parquet below OUTPUT/data."""

    committed: dict[str, list[CommittedFile]]
    """Committed fragments by `path_hash` of their source, sorted by path."""
    torn: tuple[StoredFile, ...]
    """Files under names of ours that are no whole Parquet files: they commit nothing."""
    foreign: tuple[StoredFile, ...]
    """Files that no run has written: other names, or folders that are no partitions."""


def list_data(output: Storage) -> DataListing:
    """List OUTPUT/data."""
    found: defaultdict[str, list[CommittedFile]] = defaultdict(list)
    torn: list[StoredFile] = []
    foreign: list[StoredFile] = []
    for file in output.list(".parquet", under=DATA):
        key = Key.parse(file.path)
        folders = partition_of(file.path)
        if key is None or key.rows is None or (folders and not all("=" in f for f in folders.split("/"))):
            foreign.append(file)
        elif (whole := _is_whole(output, file)) is not None:
            if whole:
                found[key.path].append(CommittedFile(key, file))
            else:
                torn.append(file)
    return DataListing(dict(found), tuple(torn), tuple(foreign))


@dataclass(frozen=True, slots=True)
class OutputListing:
    """What OUTPUT held at one moment."""

    data: DataListing
    letters: dict[str, list[CommittedFile]]
    """Dead-letter files, see `list_dead_letters`."""


def list_output(output: Storage) -> OutputListing:
    """List OUTPUT."""
    return OutputListing(list_data(output), list_dead_letters(output))


def list_committed(output: Storage) -> dict[str, list[CommittedFile]]:
    """Committed fragments by `path_hash` of their source, sorted by path, without foreign and torn files."""
    return list_data(output).committed


def list_dead_letters(output: Storage) -> dict[str, list[CommittedFile]]:
    """Dead-letter files by `path_hash` of their source, those of whole files included."""
    found: defaultdict[str, list[CommittedFile]] = defaultdict(list)
    for file in output.list(".parquet", under=DEAD_LETTERS):
        key = Key.parse(file.path)
        if key is not None and file.size >= _SMALLEST:
            found[key.path].append(CommittedFile(key, file))
    return dict(found)


def of_generation(files: Iterable[CommittedFile], generation: tuple[str, str]) -> list[CommittedFile]:
    """Of one generation (content id, short fingerprint), files that hold each row once: see `tiling`."""
    by_rows: dict[tuple[int, int], CommittedFile] = {}
    for file in files:
        if file.key.generation == generation and file.key.rows is not None:
            by_rows.setdefault(file.key.rows, file)
    return [by_rows[rows] for rows in tiling(by_rows)]


def ranges_of(files: Iterable[CommittedFile], generation: tuple[str, str]) -> list[tuple[int, int]]:
    """Row ranges of `of_generation`."""
    return [file.key.rows for file in of_generation(files, generation) if file.key.rows is not None]


def partition_of(path: str) -> str:
    """Folders of an output file between OUTPUT/data and its name."""
    return path.removeprefix(f"{DATA}/").rpartition("/")[0]


def _is_whole(output: Storage, file: StoredFile) -> bool | None:
    """Whether a file ends as Parquet does; None where it is gone by now. An object is put as a whole, so a
    store need not be asked.
    """
    if file.size < _SMALLEST:
        return False
    if not output.is_local:
        return True
    try:
        tail = output.read_range(file.path, file.size - _TRAILER, file.size)
    except FileNotFoundError:  # removed since
        return None
    return tail.endswith(_MAGIC) and int.from_bytes(tail[:4], "little") <= file.size - _SMALLEST
