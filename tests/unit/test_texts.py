"""Text columns of every kind, and what happens to columns whose names we write."""

import pyarrow as pa
import pytest

from luke_batch.document.source import (
    readable,
    rename_collisions,
    renamed_columns,
    source_column,
    text_errors,
    texts_of,
)

RAW = [b"Rome", None, b"\xff\xfe", "Ωmega 🜚".encode(), b"cut \xe2\x82"]


def column(kind: str, values: list[bytes | None]) -> pa.ChunkedArray:
    """A text column over `values`, valid UTF-8 or not, in two chunks."""
    if kind == "dictionary":
        kinds = [value for value in dict.fromkeys(values) if value is not None]
        words = pa.array(kinds, pa.binary()).view(pa.string())
        places = pa.array([None if value is None else kinds.index(value) for value in values], pa.int8())
        array = pa.DictionaryArray.from_arrays(places, words)
    elif kind == "string_view":
        raw = pa.array(values, pa.binary_view())
        array = pa.Array.from_buffers(pa.string_view(), len(raw), raw.buffers())
    else:
        binary = pa.large_binary() if kind == "large_string" else pa.binary()
        array = pa.array(values, binary).view(pa.large_string() if kind == "large_string" else pa.string())
    return pa.chunked_array([array.slice(0, 2), array.slice(2)])


KINDS = pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])


@KINDS
def test_invalid_utf8_is_found_and_nothing_else(kind: str) -> None:
    """Exactly the texts that are not UTF-8 are reported, by row; the others come as they are."""
    errors = text_errors(column(kind, RAW))
    assert sorted(errors) == [2, 4]
    assert "UTF-8" in errors[2]
    assert texts_of(column(kind, RAW)) == ["Rome", None, None, "Ωmega 🜚", None]


@KINDS
def test_valid_texts(kind: str) -> None:
    """Valid texts and nulls give no error."""
    good = [value for value in RAW if value is None or value in (b"Rome", RAW[3])]
    assert text_errors(column(kind, good)) == {}
    assert texts_of(column(kind, good)) == ["Rome", None, "Ωmega 🜚"]


@KINDS
def test_readable_ids(kind: str) -> None:
    """An id for a report is text, even if its bytes are not."""
    assert [readable(value) for value in column(kind, RAW)][:3] == ["Rome", None, "��"]
    assert readable(pa.scalar(7)) == "7"


def test_collisions_are_renamed_and_found_again() -> None:
    """A source column with a name we write becomes source_<name>, keeps its type and metadata, and is found
    by its old name.
    """
    schema = pa.schema(
        [
            pa.field("mentions", pa.string(), metadata={"k": "v"}),
            pa.field("source_mentions", pa.int64()),
            pa.field("text", pa.string(), nullable=False),
        ],
        metadata={"made": "by hand"},
    )
    table = pa.table({"mentions": ["a"], "source_mentions": [1], "text": ["t"]}, schema=schema)
    renamed = rename_collisions(table, {"mentions", "sentences"})
    assert renamed.column_names == ["source_source_mentions", "source_mentions", "text"]
    assert renamed_columns(renamed.schema) == {"mentions": "source_source_mentions"}
    assert source_column(renamed, "mentions").to_pylist() == ["a"]
    assert source_column(renamed, "text").to_pylist() == ["t"]
    assert renamed.schema.metadata == schema.metadata
    assert renamed.schema.field(0).metadata[b"k"] == b"v"
    assert not renamed.schema.field(2).nullable


def test_nothing_to_rename() -> None:
    """Without a collision the table is the same, metadata included."""
    table = pa.table({"text": ["t"]}).replace_schema_metadata({"a": "b"})
    assert rename_collisions(table, {"mentions"}).equals(table, check_metadata=True)
