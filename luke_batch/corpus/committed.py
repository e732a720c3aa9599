"""What OUTPUT holds, by its names alone."""

from collections import defaultdict
from dataclasses import dataclass

from luke_batch.corpus.keys import Key
from luke_batch.corpus.layout import DATA, DEAD_LETTERS
from luke_batch.corpus.storage import Storage, StoredFile

_SMALLEST = 12
"""Bytes that even an empty Parquet file has; a shorter file is torn and commits nothing."""


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """An output file or a dead-letter file with what its name says."""

    key: Key
    file: StoredFile


def list_committed(output: Storage) -> dict[str, list[CommittedFile]]:
    """Committed fragments by `path_hash` of their source, sorted by path, without foreign and torn files."""
    return _by_source(output, DATA, whole_files=False)


def list_dead_letters(output: Storage) -> dict[str, list[CommittedFile]]:
    """Dead-letter files by `path_hash` of their source, those of whole files included."""
    return _by_source(output, DEAD_LETTERS, whole_files=True)


def ranges_of(files: list[CommittedFile], generation: tuple[str, str]) -> list[tuple[int, int]]:
    """Row ranges of one generation (content id, short fingerprint)."""
    return [
        file.key.rows for file in files if file.key.generation == generation and file.key.rows is not None
    ]


def _by_source(output: Storage, folder: str, whole_files: bool) -> dict[str, list[CommittedFile]]:
    found: defaultdict[str, list[CommittedFile]] = defaultdict(list)
    for file in output.list(".parquet", under=folder):
        key = Key.parse(file.path)
        if key is not None and file.size >= _SMALLEST and (whole_files or key.rows is not None):
            found[key.path].append(CommittedFile(key, file))
    return dict(found)
