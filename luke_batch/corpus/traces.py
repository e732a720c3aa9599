"""Looks through files for documents that should be gone: for their ids, and for pieces of their texts.

Parquet and Arrow files are decoded, as their pages are compressed; all others are searched as they are. A piece that
another document has as well tells nothing, and is not searched for.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ahocorasick_rs import AhoCorasick

PIECE = 32
"""Characters of a piece: any excerpt of twice as many holds one."""
_SHORTEST = 16
"""Characters of a piece that is searched for: a shorter one is found in anything."""
_LEAST_ID = 6
"""The same of an id inside of other text. In a column of its own, every id is."""
_PARQUET, _ARROW = b"PAR1", b"ARROW1"


@dataclass(slots=True)
class Traces:
    """What is looked for, and where it was found."""

    ids: frozenset[str]
    pieces: set[str]
    files: int = 0
    """Files that were looked through."""
    found: list[str] = field(default_factory=lambda: list[str]())
    """Files that hold an id or a piece."""

    @classmethod
    def of(cls, ids: Collection[str], texts: Collection[str]) -> "Traces":
        """Those of documents with these ids and texts."""
        return cls(frozenset(ids), {piece for text in texts for piece in pieces(text)})

    def leave_out(self, column: pa.ChunkedArray) -> None:
        """Do not look for the pieces that texts of other documents hold."""
        patterns = sorted(self.pieces)
        if not patterns:
            return
        finder = AhoCorasick(patterns)
        for array in _strings(column):
            for text in array.to_pylist():
                if text is not None:
                    for number, _, _ in finder.find_matches_as_indexes(text, overlapping=True):
                        self.pieces.discard(patterns[number])

    def look(self, name: str, content: bytes) -> None:
        """Look through a file."""
        self.files += 1
        if any(needle.encode() in content for needle in self._needles()) or self._is_in_table(content):
            self.found.append(name)

    def look_at(self, name: str, table: pa.Table) -> None:
        """Look through a table that a library reads out of its own files."""
        self.files += 1
        if self._is_in(table):
            self.found.append(name)

    def _needles(self) -> list[str]:
        return [*(id for id in self.ids if len(id) >= _LEAST_ID), *self.pieces]

    def _is_in_table(self, content: bytes) -> bool:
        if content.startswith(_PARQUET):
            parquet = pq.ParquetFile(pa.BufferReader(content))
            if self._is_said(parquet.schema_arrow):
                return True
            return any(self._is_in(parquet.read_row_group(group)) for group in range(parquet.num_row_groups))
        if content.startswith(_ARROW):
            with pa.ipc.open_file(pa.BufferReader(content)) as reader:
                return self._is_said(reader.schema) or self._is_in(reader.read_all())
        return False

    def _is_said(self, schema: pa.Schema) -> bool:
        return any(needle.encode() in value for value in (schema.metadata or {}).values() for needle in self._needles())

    def _is_in(self, table: pa.Table) -> bool:
        needles = self._needles()
        finder = AhoCorasick(needles) if needles else None
        for column in table.columns:
            for array in _strings(column):
                for text in array.to_pylist():
                    if text in self.ids or (text and finder and finder.find_matches_as_indexes(text)):
                        return True
        return False


def pieces(text: str) -> Iterator[str]:
    """A text in pieces of equal length; a short one whole, the shortest none."""
    if _SHORTEST <= len(text) < 2 * PIECE:
        yield text
    elif len(text) >= 2 * PIECE:
        yield from (text[start : start + PIECE] for start in range(0, len(text) - PIECE + 1, PIECE))


def _strings(column: pa.ChunkedArray | pa.Array) -> Iterator[pa.Array]:
    """All texts of a column as arrays of `string`, those inside of lists and structs too."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    for chunk in chunks:
        kind = chunk.type
        if pa.types.is_dictionary(kind):
            yield from _strings(chunk.dictionary)
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            yield chunk.cast(pa.string())
        elif pa.types.is_struct(kind):
            for member in chunk.flatten():
                yield from _strings(member)
        elif pa.types.is_nested(kind):
            yield from _strings(pc.call_function("list_flatten", [chunk]))
