"""What a source file must have: the contract `schemas/input.v1.json` on an Arrow schema."""

from collections import Counter
from collections.abc import Callable, Container

import pyarrow as pa

from luke_batch.base.errors import FragmentError
from luke_batch.config import JobConfig
from luke_batch.document.columns import INTERNAL

_SHOWN = 20
"""Column names that a message lists."""

_Kind = tuple[str, Callable[[pa.DataType], bool]]
"""What a column should be, in words, and whether a type is that."""


def check_source(
    schema: pa.Schema, config: JobConfig, path: str, partition_keys: Container[str] = (), *, ids: bool = True
) -> None:
    """Raise FragmentError unless a file with `schema` can be annotated; it names file, cause and cure.

    A partition key may stand in for the column with languages. `ids`: the column with ids is needed.
    """
    counts = Counter(schema.names)
    doubled = [name for name, count in counts.items() if count > 1]
    if doubled:
        raise FragmentError(f"{path} has several columns named {doubled[0]}; rename all but one")
    reserved = [name for name in schema.names if name.startswith(INTERNAL)]
    if reserved:
        raise FragmentError(f"{path} has a column {reserved[0]}; names that begin with {INTERNAL} are ours: rename it")
    columns, language = config.input, config.input.lang_column
    wanted: dict[str, tuple[str | None, _Kind]] = {"input.text_column": (columns.text_column, _TEXT)}
    if ids:
        wanted["input.id_column"] = (columns.id_column, ("strings or integers", _is_id))
    if language is not None and (language in schema.names or language not in partition_keys):
        wanted["input.lang_column"] = (language, _TEXT)
    wanted["input.mentions_column"] = (columns.mentions_column, _lists_of("start", "end"))
    wanted["input.relations_column"] = (columns.relations_column, _lists_of("head", "tail"))
    wanted |= {key: (column.name, _KINDS[column.is_list]) for key, column in config.source_columns.items()}
    for key, (name, kind) in wanted.items():
        if name is not None:
            _check_kind(schema, path, key, name, kind)


def is_text(kind: pa.DataType) -> bool:
    """string, large_string, string_view or a dictionary of these."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _check_kind(schema: pa.Schema, path: str, key: str, column: str, wanted: _Kind) -> None:
    name, fits = wanted
    index = schema.get_field_index(column)
    if index < 0:
        raise FragmentError(f"{path} has no column {column!r} ({_found(schema)}); {_cure(key)}")
    kind = schema.field(index).type
    if fits(kind) or _has_no_value(kind):
        return
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    cure = "store it as a string column (in pyarrow: column.cast('string'))" if binary else _cure(key)
    raise FragmentError(f"{path}: column {column!r} is {kind}, not {name}; {cure}")


def _has_no_value(kind: pa.DataType) -> bool:
    """A type that pandas and pyarrow give to a column without a value, or of empty lists."""
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_null(kind))


def _cure(key: str) -> str:
    also = ", or =null for `<path>#<row>`" if key == "input.id_column" else ""
    return f"name the right one with --set {key}=COLUMN{also}"


def _found(schema: pa.Schema) -> str:
    names: list[str] = schema.names
    if not names:
        return "it has no columns at all"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"columns: {', '.join(names[:_SHOWN])}{more}"


def _is_id(kind: pa.DataType) -> bool:
    return is_text(kind) or bool(pa.types.is_integer(kind))


def _is_texts(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind)) and is_text(kind.value_type)


def _is_text_or_texts(kind: pa.DataType) -> bool:
    return is_text(kind) or _is_texts(kind)


def _lists_of(*members: str) -> _Kind:
    """Lists of structs with these integer members."""

    def fits(kind: pa.DataType) -> bool:
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            return False
        if not pa.types.is_struct(kind.value_type):
            return False
        inner = kind.value_type
        places = [inner.get_field_index(member) for member in members]
        return all(place >= 0 and bool(pa.types.is_integer(inner.field(place).type)) for place in places)

    return f"list<struct<{', '.join(members)}>>", fits


_TEXT: _Kind = ("text", is_text)
_KINDS: dict[bool | None, _Kind] = {
    True: ("a list of texts", _is_texts),
    False: _TEXT,
    None: ("text or a list of texts", _is_text_or_texts),
}
