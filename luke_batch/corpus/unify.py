"""One Arrow schema for files whose schemas differ."""

from collections.abc import Iterable

import pyarrow as pa

from luke_batch.base.errors import OutputError


def unify(schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
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
                kinds[field.name] = field.type if known is None else widen(known, field.type)
            except pa.ArrowException as error:
                raise OutputError(
                    f"column {field.name!r} is {known} in {origins[field.name]} and {field.type} in {path},"
                    " which cannot be read as one dataset; give the column one type in INPUT"
                ) from error
            origins.setdefault(field.name, path)
    return pa.schema([pa.field(name, kind) for name, kind in kinds.items()])


def widen(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """A type that holds the values of both; pa.ArrowException where there is none."""
    if first.equals(second):
        return first
    if pa.types.is_struct(first) and pa.types.is_struct(second):
        return _widen_structs(first, second)
    if _is_list(first) and _is_list(second):
        inner = widen(first.value_type, second.value_type)
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


def _widen_structs(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    members = {field.name: field.type for field in first}
    for field in second:
        known = members.get(field.name)
        members[field.name] = field.type if known is None else widen(known, field.type)
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
