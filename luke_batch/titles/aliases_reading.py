"""Parquet tables of links as batches of a few thousand rows, and the linked mentions of documents in them."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.errors import InputError
from luke_batch.corpus.committed import list_data
from luke_batch.corpus.reader import read
from luke_batch.corpus.sources import list_sources
from luke_batch.corpus.storage import STATE, Storage
from luke_batch.evaluation.items import Structs
from luke_batch.evaluation.tables import as_type, structs
from luke_batch.titles.aliases_pieces import Pieces

TEXT = pa.large_string()

_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Linked:
    """The mentions of documents, linked or not."""

    texts: pa.LargeStringArray
    mentions: Structs
    """start, end, title, and qid where it is there."""
    has_qid: bool
    pieces: Pieces
    """Where each mention stands in its text."""


def linked(path: str, batch: pa.RecordBatch, text_column: str) -> Linked:
    """The mentions of documents in the column `links`, or, where there is none, in `mentions`.

    Raises InputError, which names `path`, for missing columns and members and for other types.
    """
    column = "links" if "links" in batch.schema.names else "mentions"
    with named(path):
        require(path, batch, text_column, column)
        has_qid = _has_member(batch[column].type, "qid")
        qid = {"qid": TEXT} if has_qid else {}
        lists = as_type(batch[column], structs(start=pa.int64(), end=pa.int64(), title=TEXT, **qid))
        texts = as_type(batch[text_column], TEXT)
        texts.validate(full=True)
        found = Structs.of(lists)
        pieces = Pieces.of(texts, found.parents, found.integers("start", "end"))
    return Linked(texts, found, has_qid, pieces)


def batches(location: str, wanted: set[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Path and rows, without the columns that are not wanted; an OUTPUT of ours counts as one file.

    Raises InputError for what is not there or cannot be read.
    """
    with named(location):
        storage = Storage.at(location)
        if storage.has_folder(STATE) or list_data(storage).committed:
            dataset = read(location)
            columns = sorted(wanted.intersection(dataset.schema.names))
            for batch in dataset.to_batches(columns=columns, batch_size=_ROWS):
                yield location, batch
            return
        sources = list_sources(location)
    for source in sources.files:
        path = sources.storage.absolute(source.path)
        with named(path), sources.storage.open(source.path) as file, pq.ParquetFile(file) as parquet:
            columns = sorted(wanted.intersection(parquet.schema_arrow.names))
            for batch in parquet.iter_batches(batch_size=_ROWS, columns=columns):
                yield path, batch


@contextmanager
def named(path: str) -> Generator[None]:
    """Errors of reading as InputError that names the file."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).removeprefix("INPUT ")) from error
    except KeyError as error:
        raise InputError(f"{path}: a linked mention has no member {error.args[0]!r}") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


def require(path: str, batch: pa.RecordBatch, *columns: str) -> None:
    """InputError where a column is missing."""
    missing = [name for name in columns if name not in batch.schema.names]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; see docs/links.md for what is read")


def refuse_nulls(path: str, table: Mapping[str, pa.Array], *columns: str) -> None:
    """InputError where a column has nulls, or a string is not UTF-8."""
    for name in columns:
        if table[name].null_count:
            raise InputError(f"{path}: column {name!r} is null in {table[name].null_count} rows; remove them")
    for values in table.values():
        values.validate(full=True)


def _has_member(kind: pa.DataType, name: str) -> bool:
    inner = kind.value_type if hasattr(kind, "value_type") else kind
    return bool(pa.types.is_struct(inner) and inner.get_field_index(name) >= 0)
