"""The input contract: which columns a file must have."""

import pyarrow as pa
import pytest

from luke_batch.base.errors import FragmentError
from luke_batch.config import InputConfig, JobConfig
from luke_batch.corpus.checks import check_source

TEXT_TYPES = [
    pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()),
]  # fmt: skip
SPANS = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int64()), ("label", pa.string())]))
PAIRS = pa.large_list(pa.struct([("tail", pa.int8()), ("head", pa.uint16())]))


def _job(**columns: object) -> JobConfig:
    return JobConfig(input=InputConfig.model_validate(columns))


def complaint(schema: pa.Schema, **config: str) -> str:
    """The message for a file x.parquet."""
    with pytest.raises(FragmentError) as caught:
        check_source(schema, _job(**config), "x.parquet")
    assert "x.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_text_types(kind: pa.DataType) -> None:
    """Every kind of string is a text, an id and a language."""
    check_source(pa.schema([("id", kind), ("text", kind), ("l", kind)]), _job(lang_column="l"), "x.parquet")


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64()], ids=str)
def test_integer_ids(kind: pa.DataType) -> None:
    """Ids may be integers of any width."""
    check_source(pa.schema([("id", kind), ("text", pa.string())]), _job(), "x.parquet")


def test_columns_without_a_value() -> None:
    """A column that is null throughout may have the type null."""
    schema = pa.schema([("id", pa.null()), ("text", pa.null()), ("m", pa.null())])
    check_source(schema, _job(mentions_column="m"), "x.parquet")


def test_no_id() -> None:
    """With `id_column: null` a file needs no id."""
    check_source(pa.schema([("text", pa.string())]), _job(id_column=None), "x.parquet")


def test_given_mentions_and_relations() -> None:
    """Lists of structs with the right integers are taken, whatever else they hold."""
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("m", SPANS), ("r", PAIRS)])
    check_source(schema, _job(mentions_column="m", relations_column="r"), "x.parquet")


def test_missing_columns() -> None:
    """The message lists the columns there are and says which setting names the right one."""
    schema = pa.schema([("body", pa.string()), ("key", pa.string())])
    message = complaint(schema)
    assert "'text'" in message
    assert "body, key" in message
    assert "--set input.text_column=COLUMN" in message
    assert "=null" in complaint(schema, text_column="body")
    assert "no columns" in complaint(pa.schema([]))
    many = pa.schema([(f"c{number}", pa.int8()) for number in range(50)])
    assert "30 more" in complaint(many)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_binary_text(kind: pa.DataType) -> None:
    """Binary text is refused with a cure that is no setting."""
    message = complaint(pa.schema([("id", pa.string()), ("text", kind)]))
    assert "cast('string')" in message


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("text", pa.int64()),
        ("text", pa.list_(pa.string())),
        ("text", pa.dictionary(pa.int32(), pa.int64())),
        ("id", pa.float64()),
        ("lang", pa.int8()),
        ("m", pa.string()),
        ("m", pa.list_(pa.int32())),
        ("m", pa.list_(pa.struct([("start", pa.int32())]))),
        ("r", SPANS),
    ],
    ids=str,
)
def test_wrong_types(column: str, kind: pa.DataType) -> None:
    """A column of another type is refused, and the message names column and type."""
    fields = {
        "id": pa.string(),
        "text": pa.string(),
        "lang": pa.string(),
        "m": SPANS,
        "r": PAIRS,
        column: kind,
    }
    message = complaint(pa.schema(list(fields.items())), lang_column="lang", mentions_column="m", relations_column="r")
    assert repr(column) in message
    assert str(kind) in message


def test_doubled_and_reserved_names() -> None:
    """Two columns of one name, and a column with our internal prefix, are refused."""
    assert "several columns" in complaint(pa.schema([("id", pa.string()), ("text", pa.string()), ("id", pa.int8())]))
    assert "rename" in complaint(pa.schema([("_luke_batch_row", pa.int8())]))


@pytest.mark.parametrize("kind", [pa.list_(pa.null()), pa.large_list(pa.null()), pa.null()], ids=str)
def test_a_column_without_a_value_fits_everything(kind: pa.DataType) -> None:
    """What pandas and pyarrow make of nulls and empty lists alone."""
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("m", kind)])
    check_source(schema, _job(mentions_column="m"), "x.parquet")
