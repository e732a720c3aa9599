"""Committed rows as one dataset.

Of each source file only one generation is read, and each of its rows once (see `committed.shown`). Schemas are
unified: a column that some files lack is null there, types that differ are widened (integers and strings to
strings), dictionaries are decoded where files disagree. Partition keys become string columns, unless the
files themselves have a column of that name.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

from luke_batch.base.errors import FragmentError, OutputError
from luke_batch.corpus.committed import CommittedFile, list_data, shown
from luke_batch.corpus.footers import footers_of
from luke_batch.corpus.sources import NO_VALUE
from luke_batch.corpus.storage import Storage

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset


def read(output: str) -> "Dataset":
    """The committed rows of OUTPUT (local or `s3://`), lazily.

    Raises:
        OutputError: nothing is committed there, a file cannot be read, or two files have columns that cannot
        be unified.
    """
    from pyarrow import dataset as ds  # slow to import, and a plan does without

    storage = Storage.at(output)
    try:
        data = list_data(storage)
        if data.torn:
            raise FragmentError(f"{data.torn[0].path} is no complete Parquet file")
        files = [file for found in data.committed.values() for file in shown(storage, found)]
        files.sort(key=lambda file: (file.partition, file.key.path, file.rows))
        footers = footers_of(storage, [file.file for file in files])
        schema = _unify((footer.path, footer.schema) for footer in footers)
    except FragmentError as error:
        raise OutputError(f"OUTPUT {storage.url}: {error}; remove that file and run the job again") from error
    except OSError as error:
        raise OutputError(f"OUTPUT {output} cannot be listed: {error}") from error
    if not files:
        raise OutputError(f"OUTPUT {output} holds no committed file; run `luke-batch annotate INPUT {output}` first")
    columns = set(schema.names)
    keys = sorted({name for file in files for name, _ in _values(file)} - columns)
    format = ds.ParquetFileFormat()
    fragments = [
        format.make_fragment(
            storage.absolute(file.path),
            filesystem=storage.arrow_filesystem,
            partition_expression=_expression(file, columns),
        )
        for file in files
    ]
    schema = pa.schema([*schema, *(pa.field(name, pa.string()) for name in keys)])
    return ds.FileSystemDataset(fragments, schema, format, storage.arrow_filesystem)


def _unify(schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """The schema, without metadata, that each of `schemas` (pairs of file and schema) can be read as.

    Columns come in the order in which they first appear.

    Raises:
        OutputError: two files have types for one column that nothing holds both of.
    """
    kinds: dict[str, pa.DataType] = {}
    origins: dict[str, str] = {}
    previous: pa.Schema | None = None
    for path, schema in schemas:
        if previous is not None and schema.equals(previous):  # the rule among the files of one job
            continue
        previous = schema
        for field in schema:
            known = kinds.get(field.name)
            if known is not None and known.equals(field.type):
                continue
            try:
                kinds[field.name] = field.type if known is None else _widen(known, field.type)
            except pa.ArrowException as error:
                raise OutputError(
                    f"column {field.name!r} is {known} in {origins[field.name]} and {field.type} in {path},"
                    " which cannot be read as one dataset; give the column one type in INPUT"
                ) from error
            origins.setdefault(field.name, path)
    return pa.schema([pa.field(name, kind) for name, kind in kinds.items()])


def _widen(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """A type that holds the values of both; pa.ArrowException where there is none."""
    if first.equals(second):
        return first
    if pa.types.is_struct(first) and pa.types.is_struct(second):
        return _widen_structs(first, second)
    if _is_list(first) and _is_list(second):
        inner = _widen(first.value_type, second.value_type)
        fixed = pa.types.is_fixed_size_list(first) and pa.types.is_fixed_size_list(second)
        if fixed and first.list_size == second.list_size:
            return pa.list_(inner, first.list_size)
        large = pa.types.is_large_list(first) or pa.types.is_large_list(second)
        return pa.large_list(inner) if large else pa.list_(inner)
    plain, other = _plain(first), _plain(second)
    for text, number in ((plain, other), (other, plain)):
        if pa.types.is_integer(number) and (pa.types.is_string(text) or pa.types.is_large_string(text)):
            return text  # ids are one or the other
    merged = pa.unify_schemas([pa.schema([("x", plain)]), pa.schema([("x", other)])], promote_options="permissive")
    return merged.field(0).type


def _values(file: CommittedFile) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in file.partition.split("/"))
    return [(name, value) for name, equals, value in pairs if equals]


def _expression(file: CommittedFile, columns: set[str]) -> "object | None":
    from pyarrow import dataset as ds

    expression = None
    for name, value in _values(file):
        if name in columns:
            continue
        missing = value == NO_VALUE
        equal = ds.field(name).is_null() if missing else ds.field(name) == unquote(value)
        expression = equal if expression is None else expression & equal
    return expression


def _widen_structs(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    members = {field.name: field.type for field in first}
    for field in second:
        known = members.get(field.name)
        members[field.name] = field.type if known is None else _widen(known, field.type)
    return pa.struct([pa.field(name, kind) for name, kind in members.items()])


def _plain(kind: pa.DataType) -> pa.DataType:
    """Dictionaries decoded, views as large strings, as only these can be merged with the other kinds."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
