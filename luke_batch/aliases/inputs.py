"""What the builder reads: linked mentions, anchors and redirects, as Arrow tables of a few thousand rows."""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.aliases.pieces import Pieces
from luke_batch.corpus.committed import list_committed
from luke_batch.corpus.layout import STATE
from luke_batch.corpus.reader import read
from luke_batch.corpus.sources import list_sources
from luke_batch.corpus.storage import Storage
from luke_batch.errors import InputError
from luke_batch.evaluation.items import Structs
from luke_batch.evaluation.tables import as_type, struct_member, structs

TEXT = pa.large_string()
LINKS = pa.schema([("name", TEXT), ("title", TEXT), ("qid", TEXT), ("count", pa.int64())])
"""A link or several equal ones: what `mentions` and `anchors` give."""

_ROWS = 8192


def mentions(location: str, text_column: str, skipped: Counter[str]) -> Iterator[pa.Table]:
    """The linked mentions of documents as tables of LINKS, each of count 1.

    They are in the column `links`, or, where a file has none, in `mentions` with a member `title`, as in the
    OUTPUT of an annotation. Mentions without title are no links. Those that cannot be used are counted in
    `skipped` by reason. Raises InputError for what cannot be read.
    """
    for path, batch in _batches(location, {text_column, "links", "mentions"}):
        column = "links" if "links" in batch.schema.names else "mentions"
        with _named(path):
            _require(path, batch, text_column, column)
            has_qid = _has_member(batch[column].type, "qid")
            qid = {"qid": TEXT} if has_qid else {}
            lists = as_type(batch[column], structs(start=pa.int64(), end=pa.int64(), title=TEXT, **qid))
            texts = as_type(batch[text_column], TEXT)
            texts.validate(full=True)
            found = Structs.of(lists)
            pieces = Pieces.of(texts, found.parents, found.integers("start", "end"))
        linked = ~found.lacks("title")
        skipped["offset outside of the text"] += int((linked & ~pieces.inside).sum())
        kept = pa.array(linked & pieces.inside)
        values = found.values.filter(kept)
        qids = struct_member(values, "qid") if has_qid else pa.nulls(len(values), TEXT)
        names = pieces.strings().filter(kept)
        ones = pa.array(np.ones(len(values), np.int64))
        yield pa.table([names, struct_member(values, "title"), qids, ones], schema=LINKS)


def anchors(location: str) -> Iterator[pa.Table]:
    """Rows of name, title and, where they are there, count (else 1) and qid, as tables of LINKS.

    Raises InputError for what cannot be read, a null and a negative count.
    """
    for path, batch in _batches(location, set(LINKS.names)):
        with _named(path):
            _require(path, batch, "name", "title")
            table = {"qid": pa.nulls(len(batch), TEXT), "count": pa.array(np.ones(len(batch), np.int64))}
            given = [name for name in LINKS.names if name in batch.schema.names]
            table |= {name: as_type(batch[name], LINKS.field(name).type) for name in given}
            _refuse_faults(path, table)
        yield pa.table([table[name] for name in LINKS.names], schema=LINKS)


def redirects(location: str) -> Iterator[pa.Table]:
    """Rows of source and target, both titles. Raises InputError for what cannot be read and for nulls."""
    for path, batch in _batches(location, {"source", "target"}):
        with _named(path):
            _require(path, batch, "source", "target")
            table = {name: as_type(batch[name], TEXT) for name in ("source", "target")}
            _refuse_faults(path, table)
        yield pa.table(table)


def _batches(location: str, wanted: set[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Path and rows, without the columns that are not wanted; an OUTPUT of ours counts as one file."""
    storage = Storage.at(location)
    with _named(location):
        if storage.has_folder(STATE) or list_committed(storage):
            dataset = read(location)
            columns = sorted(wanted.intersection(dataset.schema.names))
            for batch in dataset.to_batches(columns=columns, batch_size=_ROWS):
                yield location, batch
            return
        sources = list_sources(location)
    for source in sources.files:
        path = sources.storage.absolute(source.path)
        with _named(path), sources.storage.open(source.path) as file, pq.ParquetFile(file) as parquet:
            columns = sorted(wanted.intersection(parquet.schema_arrow.names))
            for batch in parquet.iter_batches(batch_size=_ROWS, columns=columns):
                yield path, batch


@contextmanager
def _named(path: str) -> Generator[None]:
    """Errors of reading as InputError that names the file."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).removeprefix("INPUT ")) from error
    except KeyError as error:
        raise InputError(f"{path}: a linked mention has no member {error.args[0]!r}") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


def _require(path: str, batch: pa.RecordBatch, *columns: str) -> None:
    missing = [name for name in columns if name not in batch.schema.names]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; see docs/links.md for what is read")


def _refuse_faults(path: str, table: Mapping[str, pa.Array]) -> None:
    for name, values in table.items():
        if name != "qid" and values.null_count:
            raise InputError(f"{path}: column {name!r} is null in {values.null_count} rows; remove them")
        values.validate(full=True)
    if "count" in table and len(table["count"]) and table["count"].to_numpy().min() < 0:
        raise InputError(f"{path}: column 'count' has negative values; mend or remove them")


def _has_member(kind: pa.DataType, name: str) -> bool:
    inner = kind.value_type if hasattr(kind, "value_type") else kind
    return bool(pa.types.is_struct(inner) and inner.get_field_index(name) >= 0)
