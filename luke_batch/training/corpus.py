"""Annotated sentences out of TRAIN and DEV: Parquet with `text`, `entities`, `relations`, offsets in code points.

A row that cannot be used is left out, and counted under its reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.errors import InputError
from luke_batch.corpus.sources import Sources, list_sources
from luke_batch.corpus.storage import base_name

NONE_LABELS = {"ner": "NIL", "relations": "no_relation"}
"""What a head calls "nothing", as published checkpoints do."""
NO_LABELS = frozenset(NONE_LABELS.values())
"""Labels of the data that say the same."""

_LISTS: dict[str, tuple[str, ...]] = {"entities": ("start", "end"), "relations": ("head", "tail", "label")}
"""Columns and the members that their structs must have."""
_PLAIN = ("id", "lang", "source", "doc_id", "text")
_LICENCE_COLUMNS = ("license", "licence", "LICENSE")
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt")


@dataclass(frozen=True, slots=True)
class GoldEntity:
    """A mention: `text[start:end]`. A label of None means: what it is, is not known."""

    start: int
    end: int
    label: str | None

    @property
    def span(self) -> tuple[int, int]:
        """Its character range."""
        return self.start, self.end


@dataclass(frozen=True, slots=True)
class GoldRelation:
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
    entities: tuple[GoldEntity, ...]
    relations: tuple[GoldRelation, ...]
    doc_id: str = ""
    """The document of a sentence; "" where it is not known."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of training data, as the model card names it."""

    name: str
    """Relative to what the user named: no folder of this machine."""
    rows: int
    sha256: str
    licence: str
    """"" where neither a column nor a file beside it tells."""


@dataclass(slots=True)
class TrainingCorpus:
    """The rows of all files that can be used, and what was found on the way."""

    name: str
    rows: list[Row] = field(default_factory=lambda: list[Row]())
    files: list[DataFile] = field(default_factory=lambda: list[DataFile]())
    skipped: Counter[str] = field(default_factory=lambda: Counter[str]())

    @property
    def digest(self) -> str:
        """Changes with the content of any file."""
        return hashlib.sha256("".join(item.sha256 for item in self.files).encode()).hexdigest()


def read_corpus(name: str, location: str) -> TrainingCorpus:
    """All usable rows of a file, folder or glob, local or `s3://`, in the order of paths and rows.

    Args:
        name: what messages call it, TRAIN or DEV.
        location: as the user named it.

    Raises:
        InputError: no such file, one that cannot be read, a column that is missing or of another type, or no
        usable row.
    """
    try:
        sources = list_sources(location)
    except InputError as error:
        raise InputError(f"{name} {str(error).removeprefix('INPUT ')}") from error
    corpus = TrainingCorpus(name)
    for source in sources.files:
        _read_file(corpus, sources, source.path)
    if not corpus.rows:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(corpus.skipped.items()))
        raise InputError(
            f"{name} {location} has no usable row ({reasons or 'its files are empty'});"
            " it needs text and entities[start, end, label]"
        )
    return corpus


def _read_file(corpus: TrainingCorpus, sources: Sources, path: str) -> None:
    where = f"{corpus.name} {sources.storage.absolute(path)}"
    content = sources.storage.read_bytes(path)
    try:
        table = read_table(pa.BufferReader(content), where, _LICENCE_COLUMNS)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{where} cannot be read: {error}; copy the file again") from error
    for row, reason in rows_of_table(table, base_name(path)):
        if reason is None:
            corpus.rows.append(_without_nothing(row))
        else:
            corpus.skipped[reason] += 1
    digest = hashlib.sha256(content).hexdigest()
    corpus.files.append(DataFile(path, table.num_rows, digest, _licence(table, sources, path)))


def read_table(source: Any, where: str, more: tuple[str, ...] = ()) -> pa.Table:
    """The columns of a Parquet file that rows are made of, and those of `more` that it has.

    Raises InputError, which calls the file `where`, for a column that is missing or of another type.
    """
    with pq.ParquetFile(source) as parquet:
        names = set(parquet.schema_arrow.names)
        missing = sorted({"text", "entities"} - names)
        if missing:
            raise InputError(f"{where}: no column {', '.join(missing)}; training data has text and entities")
        table = parquet.read(columns=[column for column in (*_PLAIN, *_LISTS, *more) if column in names])
    for column, members in _LISTS.items():
        if column in names:
            _check_structs(where, table.schema.field(column), members)
    return table


def _check_structs(where: str, column: pa.Field, members: tuple[str, ...]) -> None:
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_null(kind)
    item = kind.value_type if is_list and not pa.types.is_null(kind) else pa.null()
    if is_list and pa.types.is_null(item):
        return
    fields = [item.field(place) for place in range(item.num_fields)] if pa.types.is_struct(item) else []
    found = {field.name for field in fields if field.name == "label" or pa.types.is_integer(field.type)}
    if not set(members) <= found:
        raise InputError(
            f"{where}: column {column.name!r} is {kind}, not list<struct<{', '.join(members)}, …>>; mend it"
        )


def rows_of_table(table: pa.Table, name: str) -> Iterator[tuple[Row, str | None]]:
    """Every row, and why it cannot be used or None; `name` and its number are the id of one that has none."""
    for number, values in enumerate(cast("list[dict[str, Any]]", table.to_pylist())):
        row = Row(
            id=str(values.get("id") or f"{name}#{number}"),
            lang=str(values.get("lang") or ""),
            source=str(values.get("source") or ""),
            text=values["text"] or "",
            entities=tuple(
                GoldEntity(_whole(item, "start"), _whole(item, "end"), item.get("label"))
                for item in _structs(values, "entities")
            ),
            relations=tuple(
                GoldRelation(_whole(item, "head"), _whole(item, "tail"), item.get("label") or "")
                for item in _structs(values, "relations")
            ),
            doc_id=str(values.get("doc_id") or ""),
        )
        yield row, fault(row)


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


def _without_nothing(row: Row) -> Row:
    """The row without entities that are labelled as none: they are spans like any other."""
    kept = [place for place, entity in enumerate(row.entities) if entity.label not in NO_LABELS]
    if len(kept) == len(row.entities):
        return row
    places = {old: new for new, old in enumerate(kept)}
    relations = tuple(
        replace(item, head=places[item.head], tail=places[item.tail])
        for item in row.relations
        if item.head in places and item.tail in places
    )
    return replace(row, entities=tuple(row.entities[place] for place in kept), relations=relations)


def _licence(table: pa.Table, sources: Sources, path: str) -> str:
    """What a column or a file beside the data says, in one line."""
    for column in _LICENCE_COLUMNS:
        if column in table.column_names:
            return ", ".join(sorted({str(value) for value in table[column].to_pylist() if value is not None}))
    folder = path.rpartition("/")[0]
    for name in _LICENCE_FILES:
        file = f"{folder}/{name}" if folder else name
        if sources.storage.stat(file) is not None:
            text = sources.storage.read_bytes(file).decode("utf-8", "replace")
            return next((line.strip()[:120] for line in text.splitlines() if line.strip()), "")
    return ""
