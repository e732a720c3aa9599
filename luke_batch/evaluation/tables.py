"""GOLD and ANNOTATED as one Arrow batch each, in types of our own choosing: a writer may have used any kind
of list, string or integer.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luke_batch.base.errors import InputError
from luke_batch.corpus.committed import list_data
from luke_batch.corpus.reader import read
from luke_batch.corpus.sources import list_sources
from luke_batch.corpus.storage import STATE, Storage
from luke_batch.document.source import readable

ID = "id"
TEXT = "text"

_OPTIONAL = frozenset({"score", "title_score", "qid"})
"""Members of structs that may be missing; they are null then."""
_ROWS = 8192
"""Of a batch."""
CONFIDENCE_LEVEL = 0.95
"""Of the intervals around scores."""

Task = Literal["ner", "types", "relations", "links"]
"""What is scored."""


def structs(**members: pa.DataType) -> pa.DataType:
    """The type large_list<struct<members>>."""
    return pa.large_list(pa.struct(list(members.items())))


_INTEGER, _NUMBER, _TEXT = pa.int64(), pa.float64(), pa.large_string()
_SPAN = {"start": _INTEGER, "end": _INTEGER}
_PAIR = {"head": _INTEGER, "tail": _INTEGER}

GOLD_COLUMNS: dict[Task, dict[str, pa.DataType]] = {
    "ner": {"entities": structs(**_SPAN, label=_TEXT)},
    "types": {"entities": structs(**_SPAN, label=_TEXT)},
    "relations": {"entities": structs(**_SPAN), "relations": structs(**_PAIR, label=_TEXT)},
    "links": {"links": structs(**_SPAN, title=_TEXT)},
}
ANNOTATED_COLUMNS: dict[Task, dict[str, pa.DataType]] = {
    "ner": {"mentions": structs(**_SPAN, label=_TEXT, score=_NUMBER)},
    "types": {"mentions": structs(**_SPAN, types=structs(label=_TEXT, score=_NUMBER))},
    "relations": {"mentions": structs(**_SPAN), "relations": structs(**_PAIR, label=_TEXT, score=_NUMBER)},
    "links": {"mentions": structs(**_SPAN, title=_TEXT, title_score=_NUMBER)},
}


def read_documents(
    name: str, location: str, id_column: str, text_column: str, lists: Mapping[str, pa.DataType], *, text_needed: bool
) -> pa.RecordBatch:
    """`id` and `text` (large_string) and the columns `lists` (name -> type as from `structs`) of all files of
    `location`, in the order of their paths.

    `location` is the OUTPUT of an annotation, or a file, folder or glob of Parquet; `name` is what messages call it. A
    text column that is missing and not needed is all null.

    Raises:
        InputError: no row, a file that cannot be read, a column that is missing or of another type, an id
        that occurs twice.
        OutputError: an OUTPUT without a committed file.
    """
    needed = {id_column, *lists} | ({text_column} if text_needed else set())
    kinds = {id_column: pa.large_string(), text_column: pa.large_string(), **lists}
    parts: list[pa.RecordBatch] = []
    for path, batch in batches(location, set(kinds), partial(_named, name)):
        missing = needed - set(batch.schema.names)
        if missing:
            cures = {id_column: "; name it with --id-column", text_column: "; name it with --text-column"}
            cure = next((cures[column] for column in sorted(missing) if column in cures), "")
            raise InputError(f"{name} {path} has no column {', '.join(sorted(missing))}{cure}")
        converted = [_convert(batch, column, kind, f"{name} {path}") for column, kind in kinds.items()]
        parts.append(pa.record_batch(converted, [ID, TEXT, *lists]))
    if not any(len(part) for part in parts):
        raise InputError(f"{name} {location} has no row")
    (whole,) = pa.Table.from_batches(parts).combine_chunks().to_batches()
    _check_ids(f"{name} {location}", whole[ID])
    return whole


def batches(
    location: str, wanted: set[str], named: Callable[[str], AbstractContextManager[None]]
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Path and rows of a file, folder or glob of Parquet, without the columns that are not wanted; an OUTPUT of ours
    counts as one file. `named` is given a path and names it in what reading it raises.
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
def _named(name: str, path: str) -> Generator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{name} {str(error).removeprefix('INPUT ')}") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name} {path} cannot be read: {error}") from error


def _check_ids(where: str, ids: pa.Array) -> None:
    counts = ids.drop_null().value_counts()
    repeated = counts.filter(pa.array(counts.field("counts").to_numpy() > 1))
    if len(repeated):
        raise InputError(
            f"{where}: {len(repeated)} ids occur more than once, {readable(repeated[0]['values'])!r} first;"
            " documents are joined by them, so each must be unique"
        )


def _convert(batch: pa.RecordBatch, column: str, kind: pa.DataType, where: str) -> pa.Array:
    if column not in batch.schema.names:
        return pa.nulls(batch.num_rows, kind)
    values = batch[column]
    try:
        return as_type(values, kind)
    except KeyError as error:
        raise InputError(f"{where}: column {column!r} has no member {error.args[0]!r}; it is {values.type}") from error
    except pa.ArrowException as error:
        what = "a list of structs" if pa.types.is_large_list(kind) else "text or integers"
        raise InputError(
            f"{where}: column {column!r} is {values.type}, which cannot be read as {what}: {error}"
        ) from error


def as_type(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """`values` as `kind`: a plain type, or one from `structs`.

    Raises KeyError for a struct without one of the members, pa.ArrowException for other types.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not pa.types.is_large_list(kind) or pa.types.is_null(values.type):
        return values.cast(kind)
    if pa.types.is_list(values.type):
        values = values.cast(pa.large_list(values.type.value_type))
    elif not (pa.types.is_large_list(values.type) or pa.types.is_fixed_size_list(values.type)):
        raise pa.ArrowTypeError("not a list")
    sizes = pc.call_function("list_value_length", [values]).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int64())
    members = _as_structs(pc.call_function("list_flatten", [values]), kind.value_type)
    return pa.LargeListArray.from_arrays(offsets, members, mask=values.is_null())


def _as_structs(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_null(values.type):  # the type of a column without any struct
        return pa.nulls(len(values), kind)
    if not pa.types.is_struct(values.type):
        return values.cast(kind)
    members: list[pa.Array] = []
    for field in kind:
        if values.type.get_field_index(field.name) >= 0:
            members.append(as_type(struct_member(values, field.name), field.type))
        elif field.name in _OPTIONAL:
            members.append(pa.nulls(len(values), field.type))
        else:
            raise KeyError(field.name)
    return pa.StructArray.from_arrays(members, fields=list(kind))


def struct_member(values: pa.StructArray, name: str) -> pa.Array:
    """A member of structs; null where the struct is."""
    return values.flatten()[values.type.get_field_index(name)]
