"""Parquet tables of links as batches of a few thousand rows, and the mentions of the documents in them."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from luke_batch.base.errors import InputError
from luke_batch.evaluation.items import Structs
from luke_batch.evaluation.tables import as_type, structs

TEXT = pa.large_string()
Longs = NDArray[np.int64]

_LISTS = structs(start=pa.int64(), end=pa.int64(), title=TEXT, qid=TEXT)


@dataclass(frozen=True, slots=True)
class TextSlices:
    """n slices of texts by code points, out of Arrow's own UTF-8 bytes and without a Python string."""

    inside: NDArray[np.bool_]
    """(n,) whether a slice lies in its text and is not empty."""
    _bytes: NDArray[np.uint8]
    """Those of the texts."""
    _places: Longs
    """(n, 2) [start, end) in the bytes; the empty slice where not inside."""

    @classmethod
    def of(cls, texts: pa.LargeStringArray, parents: Longs, spans: Longs) -> "TextSlices":
        """`spans` (n, 2), [start, end) in code points, of the texts number `parents` (n,); of a null text none is
        inside. `texts` must be valid UTF-8. They may be a few rows of a large table: only their own bytes are read.
        """
        _, offset_buffer, data = texts.buffers()
        offsets = np.frombuffer(offset_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        content = np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]]
        # every character has one byte that continues none
        characters = np.append(np.flatnonzero(content & 0xC0 != 0x80), len(content))
        firsts = np.searchsorted(characters, offsets - offsets[0])
        known = texts.is_valid().to_numpy(zero_copy_only=False)
        lengths = np.where(known, np.diff(firsts), 0)
        start, end = spans.T
        inside = (start >= 0) & (start < end) & (end <= lengths[parents])
        places = np.where(inside[:, None], firsts[parents][:, None] + spans, 0)
        return cls(inside, content, characters[places])

    def strings(self) -> pa.LargeStringArray:
        """The slices; empty where not inside."""
        starts, ends = self._places.T
        offsets = np.concatenate([[0], np.cumsum(ends - starts)])
        taken = np.repeat(starts - offsets[:-1], ends - starts) + np.arange(offsets[-1])
        content = pa.py_buffer(self._bytes[taken])
        return pa.LargeStringArray.from_buffers(len(starts), pa.py_buffer(offsets.astype(np.int64)), content)


@dataclass(frozen=True, slots=True)
class Linked:
    """The mentions of documents, linked or not."""

    texts: pa.LargeStringArray
    mentions: Structs
    """start, end, title, qid."""
    surfaces: TextSlices
    """Where each mention stands in its text."""


def linked(path: str, batch: pa.RecordBatch, text_column: str) -> Linked:
    """The mentions of documents in the column `links`, or, where there is none, in `mentions`.

    Raises InputError, which names `path`, for missing columns and members and for other types.
    """
    column = "links" if "links" in batch.schema.names else "mentions"
    with named(path):
        require(path, batch, text_column, column)
        found = Structs.of(as_type(batch[column], _LISTS))
        texts = as_type(batch[text_column], TEXT)
        texts.validate(full=True)
        return Linked(texts, found, TextSlices.of(texts, found.parents, found.integers("start", "end")))


@contextmanager
def named(path: str) -> Generator[None]:
    """Errors of reading as InputError that names the file."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).removeprefix("INPUT ")) from error
    except KeyError as error:
        raise InputError(f"{path}: a linked mention has no member {error.args[0]!r}") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


def require(path: str, batch: pa.RecordBatch, *columns: str) -> None:
    """InputError where a column is missing."""
    missing = [name for name in columns if name not in batch.schema.names]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; see docs/links.md for what is read")


def refuse_nulls(path: str, table: Mapping[str, pa.Array], *columns: str) -> None:
    """InputError where a column has nulls, or a string is not UTF-8."""
    for name in columns:
        if table[name].null_count:
            raise InputError(f"{path}: column {name!r} is null in {table[name].null_count} rows; remove them")
    for values in table.values():
        values.validate(full=True)
