"""Annotated sentences out of Parquet files: `text`, `entities`, `relations`, with code-point offsets.

A row that cannot be used is skipped, and counted under its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq

from luke_batch.base.errors import InputError

_COLUMNS = ("id", "lang", "source", "doc_id", "text", "entities", "relations")


@dataclass(frozen=True, slots=True)
class Entity:
    """A mention: `text[start:end]`. A label of None means: what it is, is not known."""

    start: int
    end: int
    label: str | None


@dataclass(frozen=True, slots=True)
class Relation:
    """A label from one entity to another, by their positions among the row's entities."""

    head: int
    tail: int
    label: str


@dataclass(frozen=True, slots=True)
class Row:
    """One sentence with its annotation."""

    id: str
    lang: str
    source: str
    text: str
    entities: tuple[Entity, ...]
    relations: tuple[Relation, ...]
    doc_id: str = ""
    """The document of a sentence; "" where it is not known."""


def read_rows(files: Iterable[Path], skipped: Counter[str] | None) -> list[Row]:
    """All usable rows of the files, in order; `skipped` counts the others by reason. None: all rows."""
    rows: list[Row] = []
    for file in files:
        schema = pq.read_schema(file)
        missing = {"text", "entities"} - set(schema.names)
        if missing:
            raise InputError(f"{file}: no column {', '.join(sorted(missing))}; training data has text and entities")
        table = pq.read_table(file, columns=[name for name in _COLUMNS if name in schema.names])
        for number, values in enumerate(cast("list[dict[str, Any]]", table.to_pylist())):
            row = row_of(values, f"{file.name}#{number}")
            reason = fault(row)
            if reason is None or skipped is None:
                rows.append(row)
            else:
                skipped[reason] += 1
    return rows


def row_of(values: dict[str, Any], name: str) -> Row:
    """A row of a file as Python values; `name` is its id where it has none."""
    entities = tuple(
        Entity(_whole(item, "start"), _whole(item, "end"), item.get("label")) for item in _structs(values, "entities")
    )
    relations = tuple(
        Relation(_whole(item, "head"), _whole(item, "tail"), item.get("label") or "")
        for item in _structs(values, "relations")
    )
    return Row(
        id=str(values.get("id") or name),
        lang=str(values.get("lang") or ""),
        source=str(values.get("source") or ""),
        text=values["text"] or "",
        entities=entities,
        relations=relations,
        doc_id=str(values.get("doc_id") or ""),
    )


def _structs(values: dict[str, Any], column: str) -> list[dict[str, Any]]:
    """The structs of a list column; a null among them has null members."""
    return [item or {} for item in values.get(column) or ()]


def _whole(item: dict[str, Any], member: str) -> int:
    """A member; -1, which is out of every range, where it is null."""
    value = item.get(member)
    return -1 if value is None else int(value)


def fault(row: Row) -> str | None:
    """Why a row cannot be used."""
    if not row.text.strip():
        return "empty text"
    if any(not 0 <= entity.start < entity.end <= len(row.text) for entity in row.entities):
        return "offset out of range"
    count = len(row.entities)
    if any(not (0 <= item.head < count and 0 <= item.tail < count) for item in row.relations):
        return "relation to no entity"
    if any(not item.label for item in row.relations):
        return "relation without a label"
    return None


def relabel(row: Row, labels: dict[str, str | None], default: str | None = None) -> Row:
    """The row with its entities' labels mapped; one that maps to None stays as a span of unknown label."""
    entities = tuple(replace(entity, label=labels.get(entity.label or "", default)) for entity in row.entities)
    return replace(row, entities=entities)


def labels_of(rows: Iterable[Row]) -> list[str]:
    """The entity labels of the rows, sorted."""
    return sorted({entity.label for row in rows for entity in row.entities if entity.label is not None})
