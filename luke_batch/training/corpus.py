"""The files of TRAIN and DEV: what is read of them, their hashes and what is known of their licences."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.errors import InputError
from luke_batch.corpus.sources import Sources, list_sources
from luke_batch.corpus.storage import base_name
from luke_batch.training.data import Row, fault, row_of

_LISTS: dict[str, tuple[str, ...]] = {"entities": ("start", "end"), "relations": ("head", "tail", "label")}
"""Columns and the members that their structs must have."""
_PLAIN = ("id", "lang", "source", "doc_id", "text")
_LICENCE_COLUMNS = ("license", "licence", "LICENSE")
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt")


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
class Corpus:
    """The rows of all files that can be used, and what was found on the way."""

    name: str
    rows: list[Row] = field(default_factory=lambda: list[Row]())
    files: list[DataFile] = field(default_factory=lambda: list[DataFile]())
    skipped: Counter[str] = field(default_factory=lambda: Counter[str]())

    @property
    def digest(self) -> str:
        """Changes with the content of any file."""
        return hashlib.sha256("".join(item.sha256 for item in self.files).encode()).hexdigest()


def read_corpus(name: str, location: str) -> Corpus:
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
    corpus = Corpus(name)
    for source in sources.files:
        _read_file(corpus, sources, source.path)
    if not corpus.rows:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(corpus.skipped.items()))
        raise InputError(
            f"{name} {location} has no usable row ({reasons or 'its files are empty'});"
            " it needs text and entities[start, end, label]"
        )
    return corpus


def _read_file(corpus: Corpus, sources: Sources, path: str) -> None:
    where = f"{corpus.name} {sources.storage.absolute(path)}"
    content = sources.storage.read_bytes(path)
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as parquet:
            names = set(parquet.schema_arrow.names)
            missing = sorted({"text", "entities"} - names)
            if missing:
                raise InputError(f"{where}: no column {', '.join(missing)}; training data has text and entities")
            wanted = [column for column in (*_PLAIN, *_LISTS, *_LICENCE_COLUMNS) if column in names]
            table = parquet.read(columns=wanted)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{where} cannot be read: {error}; copy the file again") from error
    for column, members in _LISTS.items():
        if column in names:
            _check_structs(where, table.schema.field(column), members)
    for number, values in enumerate(cast("list[dict[str, Any]]", table.to_pylist())):
        row = row_of(values, f"{base_name(path)}#{number}")
        reason = fault(row)
        if reason is None:
            corpus.rows.append(row)
        else:
            corpus.skipped[reason] += 1
    digest = hashlib.sha256(content).hexdigest()
    corpus.files.append(DataFile(path, table.num_rows, digest, _licence(table, sources, path)))


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
