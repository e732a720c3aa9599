"""Where the document with an id lies in OUTPUT: in an output file, or in the dead letters.

`<path>#<row>` leads to its output by name. Any other id is looked for in the id column of one file after
another, which is read alone, and only where the footer's bounds allow for it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luke_batch.base.errors import FragmentError, OutputError
from luke_batch.corpus.committed import CommittedFile, OutputListing, shown
from luke_batch.corpus.footers import inspect
from luke_batch.corpus.output_file import path_hash
from luke_batch.corpus.storage import Storage
from luke_batch.document.source import readable, renamed_columns

_T = TypeVar("_T")

_THREADS = 8
_AT_ONCE = 256
"""Files of which the search holds results at a time."""


@dataclass(frozen=True, slots=True)
class FoundRow:
    """One committed document."""

    file: CommittedFile
    row: int
    """In the output file, from 0."""
    source_row: int
    """In the source file, from 0."""


@dataclass(frozen=True, slots=True)
class FoundLetter:
    """One dead letter."""

    file: CommittedFile
    letter: dict[str, Any]
    """Columns of dead_letters.v1."""


def find_rows(output: Storage, listed: OutputListing, wanted: str, id_columns: Sequence[str]) -> list[FoundRow]:
    """Committed documents with this id, of those that a reader shows; several where ids are repeated.

    Args:
        output: OUTPUT. listed: what it holds. wanted: the id as text. id_columns: what runs call the column
        with ids; the first that a file has counts.

    Raises:
        OutputError: an output file cannot be read.
    """
    try:
        by_place = _by_place(output, listed, wanted)
        files = [file for found in listed.committed.values() for file in shown(output, found)]
        return by_place or [
            FoundRow(file, row, _good_rows(output, listed, file)[row])
            for file, rows in _each(files, partial(_rows_with_id, output, wanted=wanted, id_columns=id_columns))
            for row in rows
        ]
    except (FragmentError, OSError, pa.ArrowException) as error:
        raise OutputError(
            f"OUTPUT {output.url}: {' '.join(str(error).split())}; remove that file and run the job again"
        ) from error


def find_letters(output: Storage, listed: OutputListing, wanted: str) -> list[FoundLetter]:
    """Dead letters of documents with this id, and of the file of that name."""
    return [
        FoundLetter(file, letter)
        for file, letters in each_letters(output, listed.letters)
        for letter in letters
        if wanted in (letter["id"], f"{letter['source']}#{letter['row']}")
        or (letter["row"] is None and letter["source"] == wanted)
    ]


def each_letters(
    output: Storage, files: Mapping[str, Sequence[CommittedFile]]
) -> Iterator[tuple[CommittedFile, list[dict[str, Any]]]]:
    """Every dead-letter file with its letters; `files` as a listing of OUTPUT has them."""
    return _each([file for found in files.values() for file in found], partial(_read_letters, output))


def _each(files: Sequence[CommittedFile], look: Callable[[CommittedFile], _T]) -> Iterator[tuple[CommittedFile, _T]]:
    """Every file with what `look` finds in it, several at a time."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(files), _AT_ONCE):
            some = files[start : start + _AT_ONCE]
            yield from zip(some, pool.map(look, some), strict=True)


def _read_letters(output: Storage, file: CommittedFile) -> list[dict[str, Any]]:
    """The dead letters of one file; none where it is gone by now."""
    try:
        with output.open(file.file.path) as source:
            return cast("list[dict[str, Any]]", pq.ParquetFile(source).read().to_pylist())
    except FileNotFoundError:
        return []


def _by_place(output: Storage, listed: OutputListing, wanted: str) -> list[FoundRow]:
    """The row that `<path>#<row>` names."""
    path, _, number = wanted.rpartition("#")
    files = listed.committed.get(path_hash(path), []) if number.isdecimal() else []
    for file in shown(output, files) if files else []:
        start, end = file.key.rows or (0, 0)
        if start <= int(number) < end:
            good = _good_rows(output, listed, file)
            if int(number) in good:
                return [FoundRow(file, good.index(int(number)), int(number))]
    return []


def _rows_with_id(output: Storage, file: CommittedFile, *, wanted: str, id_columns: Sequence[str]) -> list[int]:
    footer = inspect(output, file.file)
    renamed = renamed_columns(footer.schema)
    names = [renamed.get(name, name) for name in id_columns]
    column = next((name for name in names if name in footer.schema.names), None)
    if column is None or not _may_hold(footer.metadata, column, wanted):
        return []
    with output.open(file.file.path) as source:
        ids = pq.ParquetFile(source).read(columns=[column])[column]
    if "\ufffd" in wanted:  # stands for bytes that are no UTF-8
        return [row for row, value in enumerate(ids) if readable(value) == wanted]
    same = pc.call_function("equal", [ids.cast(pa.string()), pa.scalar(wanted)])
    return cast("list[int]", pc.call_function("indices_nonzero", [same]).to_pylist())


def _may_hold(metadata: pq.FileMetaData, column: str, wanted: str) -> bool:
    """Whether the bounds of a text column allow for `wanted`; an integer column's are not asked."""
    for group in (metadata.row_group(number) for number in range(metadata.num_row_groups)):
        for place in range(group.num_columns):
            found = group.column(place)
            if found.path_in_schema == column and _within(found.statistics, wanted):
                return True
    return False


def _within(bounds: Any, wanted: str) -> bool:
    """Whether `wanted` lies within bounds of a Parquet column, as far as they are known and text."""
    try:
        if bounds is None or not bounds.has_min_max or not isinstance(bounds.min, str):
            return True
        return bounds.min <= wanted <= cast(str, bounds.max)
    except UnicodeDecodeError:
        return True


def _good_rows(output: Storage, listed: OutputListing, file: CommittedFile) -> list[int]:
    """Source rows of an output file, one for each of its rows: those of its range without the dead."""
    start, end = file.key.rows or (0, 0)
    letters = [letter for letter in listed.letters.get(file.key.path, []) if letter.key == file.key]
    dead = {letter["row"] for each in letters for letter in _read_letters(output, each)}
    return [row for row in range(start, end) if row not in dead]
