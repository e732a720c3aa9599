"""GOLD and ANNOTATED as one Arrow batch each, in types of our own choosing: a writer may have used any kind
of list, string or integer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luke_batch.base.errors import InputError
from luke_batch.corpus.committed import list_data
from luke_batch.corpus.reader import read
from luke_batch.corpus.sources import list_sources
from luke_batch.corpus.storage import STATE, Storage
from luke_batch.document.texts import readable

ID = "id"
TEXT = "text"

_OPTIONAL = frozenset({"score", "title_score"})
"""Members of structs that may be missing; they are null then."""


def structs(**members: pa.DataType) -> pa.DataType:
    """The type large_list<struct<members>>."""
    return pa.large_list(pa.struct(list(members.items())))


@dataclass(frozen=True, slots=True)
class Columns:
    """What is read of a table of documents."""

    id: str
    text: str
    lists: Mapping[str, pa.DataType]
    """Column -> its type as from `structs`."""
    text_needed: bool


def read_documents(name: str, location: str, columns: Columns) -> pa.RecordBatch:
    """`id` and `text` (large_string) and the lists of all files of `location`, in the order of their paths.

    `location` is the OUTPUT of an annotation, or a file, folder or glob of Parquet; `name` is what messages
    call it. A text column that is missing and not needed is all null.

    Raises:
        InputError: no row, a file that cannot be read, a column that is missing or of another type, an id
        that occurs twice.
        OutputError: an OUTPUT without a committed file.
    """
    needed = {columns.id, *columns.lists} | ({columns.text} if columns.text_needed else set())
    kinds = {columns.id: pa.large_string(), columns.text: pa.large_string(), **columns.lists}
    tables: list[pa.Table] = []
    for path, table in _tables(name, location, list(kinds)):
        missing = needed - set(table.column_names)
        if missing:
            cures = {columns.id: "; name it with --id-column", columns.text: "; name it with --text-column"}
            cure = next((cures[column] for column in sorted(missing) if column in cures), "")
            raise InputError(f"{name} {path} has no column {', '.join(sorted(missing))}{cure}")
        converted = [_convert(table, column, kind, f"{name} {path}") for column, kind in kinds.items()]
        tables.append(pa.table(converted, [ID, TEXT, *columns.lists]))
    batches = pa.concat_tables(tables).combine_chunks().to_batches()
    if not batches:
        raise InputError(f"{name} {location} has no row")
    _check_ids(f"{name} {location}", batches[0][ID])
    return batches[0]


def _check_ids(where: str, ids: pa.Array) -> None:
    counts = ids.drop_null().value_counts()
    repeated = counts.filter(pa.array(counts.field("counts").to_numpy() > 1))
    if len(repeated):
        raise InputError(
            f"{where}: {len(repeated)} ids occur more than once, {readable(repeated[0]['values'])!r} first;"
            " documents are joined by them, so each must be unique"
        )


def _tables(name: str, location: str, wanted: list[str]) -> Iterator[tuple[str, pa.Table]]:
    """Each file with those of its columns that are wanted; an OUTPUT counts as one file."""
    storage = Storage.at(location)
    try:
        is_output = storage.has_folder(STATE) or bool(list_data(storage).committed)
        if is_output:
            dataset = read(location)
            yield location, dataset.to_table(columns=[c for c in wanted if c in dataset.schema.names])
            return
        sources = list_sources(location)
    except InputError as error:
        raise InputError(f"{name} {str(error).removeprefix('INPUT ')}") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name} {location} cannot be read: {error}") from error
    for source in sources.files:
        path = sources.storage.absolute(source.path)
        try:
            with sources.storage.open(source.path) as file, pq.ParquetFile(file) as parquet:
                names = set(parquet.schema_arrow.names)
                yield path, parquet.read(columns=[column for column in wanted if column in names])
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{name} {path} cannot be read: {error}") from error


def _convert(table: pa.Table, column: str, kind: pa.DataType, where: str) -> pa.Array:
    if column not in table.column_names:
        return pa.nulls(table.num_rows, kind)
    values = table[column]
    try:
        plain = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
        return as_type(plain, kind)
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
