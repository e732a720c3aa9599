"""Rows of the recipe's data, and rows whose labels name the entity itself: a title, a Wikidata id, a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq

from luke_batch.base.errors import InputError
from luke_batch.training.corpus import GoldEntity, Row, fault, read_table, rows_of_table

_UNNAMED = frozenset({"TIME", "NUM"})
"""Types whose equal surfaces in two documents may be two entities: "two years", "1998"."""


def read_rows(files: Iterable[Path], skipped: Counter[str] | None) -> list[Row]:
    """All usable rows of the files, in order; `skipped` counts the others by reason. None: all rows."""
    rows: list[Row] = []
    for file in files:
        for row, reason in rows_of_table(read_table(file, str(file)), file.name):
            if reason is None or skipped is None:
                rows.append(row)
            else:
                skipped[reason] += 1
    return rows


def relabel(row: Row, labels: dict[str, str | None], default: str | None = None) -> Row:
    """The row with its entities' labels mapped; one that maps to None stays as a span of unknown label."""
    entities = tuple(replace(entity, label=labels.get(entity.label or "", default)) for entity in row.entities)
    return replace(row, entities=entities)


def entity_labels(rows: Iterable[Row]) -> list[str]:
    """The entity labels of the rows, sorted."""
    return sorted({entity.label for row in rows for entity in row.entities if entity.label is not None})


def read_linked(files: Iterable[Path], skipped: Counter[str]) -> list[Row]:
    """Rows with the mentions of their column `links[start,end,title,qid]`, labelled by title or else qid."""
    rows: list[Row] = []
    for file in files:
        for row, values in zip(*_with_column(file, "links"), strict=True):
            entities = tuple(
                GoldEntity(link["start"], link["end"], link.get("title") or link.get("qid")) for link in values
            )
            linked = replace(row, entities=entities, relations=())
            reason = fault(linked)
            if reason is None:
                rows.append(linked)
            else:
                skipped[reason] += 1
    return rows


def read_clusters(file: Path) -> list[Row]:
    """Rows with a column `clusters`: for each of `entities` the number of its entity within the document.

    Clusters of two documents are one entity where they share a surface, unless that is a single word of a
    person's name: "Smith" is many.
    """
    rows, clusters = _with_column(file, "clusters")
    union = _Union()
    for row, numbers in zip(rows, clusters, strict=True):
        for item, number in zip(row.entities, numbers, strict=True):
            surface = row.text[item.start : item.end].casefold()
            if item.label not in _UNNAMED and not (item.label == "PER" and " " not in surface):
                union.join(_cluster(row, number), f"{item.label} {surface}")
    return [
        replace(
            row,
            entities=tuple(
                replace(item, label=union.root(_cluster(row, number)))
                for item, number in zip(row.entities, numbers, strict=True)
            ),
            relations=(),
        )
        for row, numbers in zip(rows, clusters, strict=True)
    ]


def _cluster(row: Row, number: int) -> str:
    return f"{row.doc_id}#{number}"


def _with_column(file: Path, name: str) -> tuple[list[Row], list[list[Any]]]:
    """All rows of a file, faulty ones too, and the values of one more column."""
    if name not in pq.read_schema(file).names:
        raise InputError(f"{file}: no column {name}; identities are learnt from it")
    values = cast("list[list[Any] | None]", pq.read_table(file, columns=[name])[name].to_pylist())
    return read_rows([file], None), [item or [] for item in values]


class _Union:
    """Names that mean the same: union-find."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        """The name that stands for all that were joined with `name`."""
        while (parent := self._parent.get(name, name)) != name:
            name = parent
        return name

    def join(self, first: str, second: str) -> None:
        """From now on both names have one root."""
        self._parent[self.root(first)] = self.root(second)
