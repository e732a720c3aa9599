"""Columns of the source: their texts as Python strings (pyarrow reads without validating UTF-8), and what happens to
one whose name we write: it travels, and is committed, under another.
"""

from collections.abc import Collection
from itertools import chain
from typing import cast

import pyarrow as pa

from luke_batch.document.state import Source

_RENAMED_FROM = b"luke_batch.renamed_from"


def rename_collisions(table: pa.Table, written: Collection[str]) -> pa.Table:
    """`table` with every column that bears a name in `written` renamed to `source_<name>`.

    The prefix comes again where that exists already. Field metadata records the old name: see
    `renamed_columns`.
    """
    fields = [_never_renamed(field) for field in table.schema]
    taken = {field.name for field in fields} | set(written)
    for index, field in enumerate(fields):
        if field.name not in written:
            continue
        new = f"source_{field.name}"
        while new in taken:
            new = f"source_{new}"
        taken.add(new)
        metadata = {**(field.metadata or {}), _RENAMED_FROM: field.name.encode()}
        fields[index] = field.with_name(new).with_metadata(metadata)
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields, metadata=table.schema.metadata))


def _never_renamed(field: pa.Field) -> pa.Field:
    """Files that an earlier job wrote say what that job renamed, which is not our concern."""
    metadata = dict(field.metadata or {})
    if metadata.pop(_RENAMED_FROM, None) is None:
        return field
    return field.with_metadata(metadata)


def renamed_columns(schema: pa.Schema) -> dict[str, str]:
    """Old name -> present name of the columns that `rename_collisions` renamed."""
    return {
        field.metadata[_RENAMED_FROM].decode(): field.name
        for field in schema
        if field.metadata and _RENAMED_FROM in field.metadata
    }


def source_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """The source column that the configuration calls `name`, renamed or not."""
    return table[renamed_columns(table.schema).get(name, name)]


def text_errors(column: pa.ChunkedArray) -> dict[int, str]:
    """Row -> message for each text, or list of texts, of `column` that is not valid UTF-8.

    One native pass where everything is valid; only a chunk that is not is looked at text by text.
    """
    errors: dict[int, str] = {}
    offset = 0
    for chunk in column.chunks:
        try:
            chunk.validate(full=True)
        except pa.ArrowInvalid:
            for row, values in enumerate(_rows(chunk)):
                message = next(filter(None, map(_utf8_error, values)), None)
                if message:
                    errors[offset + row] = message
        offset += len(chunk)
    return errors


def texts_of(column: pa.ChunkedArray) -> list[str | None]:
    """The texts, one for each row; None where one is null or not valid UTF-8 (see `text_errors`)."""
    if text_errors(column):
        values = chain.from_iterable(_as_bytes(chunk) for chunk in column.chunks)
        return [None if value is None or _utf8_error(value) else value.decode() for value in values]
    return cast("list[str | None]", column.to_pylist())


def source_values(table: pa.Table, name: str) -> list[Source]:
    """The values of a source column with texts or lists of texts, one for each row.

    A row of text that is not valid UTF-8 has failed before (see `text_errors`), and is None.
    """
    column = source_column(table, name)
    if not _is_list(column.type):
        return cast("list[Source]", texts_of(column))
    errors = text_errors(column)
    return [None if row in errors else column[row].as_py() for row in range(len(column))]


def longest(column: pa.ChunkedArray) -> int:
    """Bytes of the longest text; 0 without one."""
    values = chain.from_iterable(_as_bytes(chunk) for chunk in column.chunks)
    return max((len(value) for value in values if value is not None), default=0)


def readable(scalar: pa.Scalar) -> str | None:
    """A string or integer value as text for a report; bytes that are not UTF-8 become U+FFFD."""
    try:
        value = scalar.as_py()
    except UnicodeDecodeError:
        plain = scalar.value if isinstance(scalar, pa.DictionaryScalar) else scalar
        return cast(bytes, plain.as_buffer().to_pybytes()).decode(errors="replace")
    return None if value is None else str(value)


def _utf8_error(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return f"the text is not valid UTF-8: {error.reason} at byte {error.start}"
    return None


def _rows(chunk: pa.Array) -> list[list[bytes | None]]:
    """The texts of each row: one, or those of its list."""
    if not _is_list(chunk.type):
        return [[value] for value in _as_bytes(chunk)]
    return [_as_bytes(cell.values) if cell.is_valid else [] for cell in chunk]


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _as_bytes(chunk: pa.Array) -> list[bytes | None]:
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    kind = pa.binary_view() if pa.types.is_string_view(chunk.type) else pa.large_binary()
    return cast("list[bytes | None]", chunk.cast(kind).to_pylist())
