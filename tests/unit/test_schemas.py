"""The contracts of schemas/ as Arrow types."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from luke_batch.base.contracts import load_contract
from luke_batch.base.errors import ContractError

_FOLDER = Path(__file__).parents[2] / "schemas"
_VECTOR = pa.list_(pa.float32(), 4)


@pytest.mark.parametrize("path", sorted(_FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_file_is_named_for_what_it_holds(path: Path) -> None:
    """Name and version inside a contract are those of its file, and every column says what it is."""
    document = json.loads(path.read_text(encoding="utf-8"))
    assert path.name == f"{document['name']}.v{document['version']}.json"
    assert all(column["about"] for column in document["columns"])


def test_annotations_are_what_readers_rely_on() -> None:
    """Names, order and types of the columns are frozen: a change needs a new version."""
    schema = load_contract("annotations").schema(vector=_VECTOR)
    assert schema.names == [
        "sentences",
        "mentions",
        "relations",
        "mention_embeddings",
        "entity_embeddings",
        "text_embedding",
        "word_embeddings",
        "sequence",
        "tokens",
        "answers",
        "choice",
        "cloze",
        "coverage",
    ]
    mention = schema.field("mentions").type.value_type
    assert [field.name for field in mention] == [
        "start",
        "end",
        "text",
        "sentence",
        "label",
        "score",
        "types",
        "title",
        "qid",
        "title_score",
    ]
    assert mention.field("score").type == pa.float32()
    assert schema.field("mention_embeddings").type == pa.list_(_VECTOR)


def test_columns_are_chosen_in_the_order_of_the_contract() -> None:
    """A head that is not configured leaves its column out."""
    schema = load_contract("annotations").schema(["coverage", "sentences"])
    assert schema.names == ["sentences", "coverage"]


@pytest.mark.parametrize("vector", [pa.list_(pa.float32(), 7), pa.list_(pa.float16(), 384)])
def test_vectors_of_any_dimension_and_either_width_pass(vector: pa.DataType) -> None:
    """The dimension is the model's; values are float32 or float16."""
    contract = load_contract("annotations")
    contract.check(contract.schema(vector=vector))


@pytest.mark.parametrize(
    "field",
    [
        pa.field("mention_embeddings", pa.list_(pa.list_(pa.float32()))),
        pa.field("text_embedding", pa.list_(pa.float64(), 4)),
        pa.field("relations", pa.list_(pa.struct([("head", pa.int64())]))),
        pa.field("sentences", pa.string()),
    ],
    ids=lambda field: field.name,
)
def test_a_column_of_another_type_is_a_defect(field: pa.Field) -> None:
    """Nothing that breaks the contract may be committed."""
    with pytest.raises(ContractError, match=f"column {field.name} of annotations.v1"):
        load_contract("annotations").check(pa.schema([field]))


def test_columns_of_the_source_are_not_checked() -> None:
    """Everything that the contract does not name passes through."""
    load_contract("annotations").check(pa.schema([("anything", pa.float64())]))


def test_a_vector_needs_its_dimension() -> None:
    """Asking for a vector column without one is an error and no guess."""
    with pytest.raises(ContractError, match="dimension"):
        load_contract("annotations").schema(["text_embedding"])
