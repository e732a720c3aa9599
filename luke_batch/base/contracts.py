"""The contracts of schemas/ as Arrow types.

The JSON files are language-neutral: a type is a name (`int32`, `int64`, `float32`, `string`, `vector`),
`{"list": type}` or `{"struct": {name: type}}`. They lie at the top of the checkout and inside the wheel as
`luke_batch/_schemas`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import pyarrow as pa

from luke_batch.base.errors import ContractError

_PLAIN = {"int32": pa.int32(), "int64": pa.int64(), "float32": pa.float32(), "string": pa.string()}


@dataclass(frozen=True, slots=True)
class Contract:
    """One versioned table contract: column names with their JSON types."""

    name: str
    version: int
    types: dict[str, object]

    def field(self, column: str, vector: pa.DataType | None = None) -> pa.Field:
        """The Arrow field of `column`; `vector` (fixed_size_list) stands in for the JSON type `vector`."""
        return pa.field(column, _arrow(self.types[column], vector))

    def schema(self, columns: Iterable[str] | None = None, vector: pa.DataType | None = None) -> pa.Schema:
        """Arrow schema of `columns` (all where None), in the order of the contract."""
        wanted = self.types if columns is None else set(columns)
        return pa.schema([self.field(name, vector) for name in self.types if name in wanted])

    def check(self, schema: pa.Schema) -> None:
        """Raise ContractError unless every column of `schema` that the contract names has its type."""
        for name in self.types:
            index = schema.get_field_index(name)
            if index < 0:
                continue
            found = schema.field(index).type
            expected = _arrow(self.types[name], _vector_in(found))
            if not found.equals(expected):
                raise ContractError(
                    f"column {name} of {self.name}.v{self.version} is {found}, the contract says {expected};"
                    " this is a defect of luke-batch: please report it"
                )


_ADDED: dict[str, dict[str, object]] = {}


def add_columns(name: str, types: Mapping[str, object]) -> None:
    """Let the contract `name` have further columns: those of heads of other packages."""
    if types:
        _ADDED.setdefault(name, {}).update(types)
        load_contract.cache_clear()


@cache
def load_contract(name: str, version: int = 1) -> Contract:
    """Read `schemas/<name>.v<version>.json`."""
    document = json.loads((_folder() / f"{name}.v{version}.json").read_text(encoding="utf-8"))
    types = {str(column["name"]): cast("object", column.get("type")) for column in document["columns"]}
    types |= _ADDED.get(name, {})
    return Contract(name=document["name"], version=document["version"], types=types)


def _folder() -> Path:
    """Inside a wheel the contracts are package data; in a checkout they lie at the top."""
    packaged = Path(__file__).parents[1] / "_schemas"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "schemas"


def _arrow(kind: object, vector: pa.DataType | None) -> pa.DataType:
    if kind == "vector":
        if vector is None:
            raise ContractError("a vector column needs its dimension; pass the model's vector type")
        return vector
    if isinstance(kind, str):
        return _PLAIN[kind]
    nested = cast("dict[str, object]", kind)
    if "list" in nested:
        return pa.list_(_arrow(nested["list"], vector))
    members = cast("dict[str, object]", nested["struct"])
    return pa.struct([pa.field(name, _arrow(member, vector)) for name, member in members.items()])


def _vector_in(found: pa.DataType) -> pa.DataType:
    """The vector type inside a column's type, if it is a legal one; a legal stand-in otherwise."""
    inner = found.value_type if pa.types.is_list(found) else found
    if pa.types.is_struct(inner) and inner.get_field_index("vector") >= 0:
        inner = inner.field("vector").type
    if pa.types.is_fixed_size_list(inner) and inner.value_type in (pa.float32(), pa.float16()):
        return inner
    return pa.list_(pa.float32(), 1)
