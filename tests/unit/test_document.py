"""Documents: merging mentions, and the round trip through Arrow."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.base.contracts import load_contract
from luke_batch.document.columns import drop_internal, read_documents, write_documents
from luke_batch.document.state import Coverage, Document, Failure, Mentions, Relations, no_spans

VECTOR = pa.list_(pa.float32(), 3)
COLUMNS = tuple(load_contract("annotations").types)

spans = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=8).map(
    lambda pairs: np.array([(start, start + length) for start, length in pairs], np.int32).reshape(-1, 2)
)


def _document(text: str = "Marie Curie was born in Warsaw. She moved to Paris.") -> Document:
    mentions = Mentions(
        np.array([[0, 11], [24, 30], [45, 50]], np.int32),
        ["PER", "LOC", None],
        np.array([0.9, 0.8, np.nan], np.float32),
        [[("scientist", 0.75)], [], None],
        ["Marie Curie", None, "Paris"],
        ["Q7186", None, None],
        np.array([0.7, np.nan, np.nan], np.float32),
    )
    return Document(
        text=text,
        sentences=np.array([[0, 31], [32, 51]], np.int32),
        words=np.array([[0, 5], [6, 11]], np.int32),
        found={"gazetteer": np.array([[24, 30]], np.int32), "alias": np.array([[45, 50]], np.int32)},
        given=np.array([[0, 11]], np.int32),
        given_labels=["PER"],
        given_titles=["Marie Curie"],
        given_candidates=[["Marie Curie", "Curie"]],
        given_pairs=np.array([[0, 0]], np.int32),
        mentions=mentions,
        relations=Relations(np.array([[0, 1]], np.int32), ["born in"], np.array([0.5], np.float32)),
        mention_vectors=np.array([[1, 2, 3], [4, 5, 6], [np.nan] * 3], np.float32),
        entity_vectors=np.array([[3, 2, 1], [np.nan] * 3, [np.nan] * 3], np.float32),
        word_vectors=np.array([[1, 1, 1], [np.nan] * 3], np.float32),
        results={
            "sequence": [{"label": "news", "score": 0.5, "value": None}],
            "tokens": [{"start": 0, "end": 5, "text": "Marie", "label": "PER", "score": 0.5}],
            "answers": [{"question": "Who?", "start": None, "end": None, "text": None, "score": 0.5}],
            "choice": {"index": 1, "text": "b", "score": 0.75, "scores": [0.25, 0.75]},
            "cloze": [{"text": "Warsaw", "word_score": -1.5, "entity_score": None}],
        },
        text_vector=np.array([7, 8, 9], np.float32),
        coverage=Coverage(windows=2, tokens=20, spans_proposed=3, spans_scored=2),
    )


@given(spans, spans)
def test_merged_mentions_are_sorted_unique_and_complete(first: np.ndarray, second: np.ndarray) -> None:
    """After any merge the mentions are the union, sorted by (start, -end), each once."""
    document = Document(text="x" * 40, sentences=np.array([[0, 40]], np.int32))
    document.merge_mentions(Mentions.unlabelled(first))
    document.merge_mentions(Mentions.unlabelled(second))
    expected = sorted({*map(tuple, first.tolist()), *map(tuple, second.tolist())}, key=lambda s: (s[0], -s[1]))
    assert [tuple(span) for span in document.mentions.spans.tolist()] == expected
    assert document.mentions.find(first).tolist() == [expected.index(tuple(s)) for s in first.tolist()]


def test_merging_keeps_what_is_known_and_moves_indices() -> None:
    """Labels, types, relations and vectors stay with their mention when new ones come before it."""
    document = _document()
    new = Mentions.unlabelled(np.array([[0, 5], [45, 50]], np.int32))
    new.labels[:], new.scores[:] = ["X", "LOC"], [0.1, 0.2]
    document.merge_mentions(new)
    assert document.mentions.spans.tolist() == [[0, 11], [0, 5], [24, 30], [45, 50]]
    assert document.mentions.labels == ["PER", "X", "LOC", "LOC"]
    assert document.mentions.types == [[("scientist", 0.75)], None, [], None]
    assert document.relations is not None
    assert document.relations.pairs.tolist() == [[0, 2]]
    assert document.mention_vectors is not None
    assert np.isnan(document.mention_vectors[1]).all()
    assert document.mention_vectors[2].tolist() == [4, 5, 6]


def test_a_document_survives_the_round_trip_through_arrow() -> None:
    """Whatever a stage wrote, the next stage reads; failed rows stay failed and hold nulls."""
    failed = Document(text="bad", sentences=no_spans(), failure=Failure("ner", "ValueError", "no"))
    empty = Document(text="", sentences=no_spans(), relations=Relations(no_spans(), [], np.empty(0, np.float32)))
    texts = [_document().text, "bad", None]
    table = write_documents(pa.table({"text": texts}), [_document(), failed, empty], COLUMNS, VECTOR)
    load_contract("annotations").check(table.schema)
    for name in COLUMNS:
        assert table[name][1].as_py() is None
    assert table["mentions"][2].as_py() == []
    assert table["text_embedding"][2].as_py() is None
    again = read_documents(table, "text", COLUMNS)
    assert again[1].failure == failed.failure
    assert write_documents(pa.table({"text": texts}), again, COLUMNS, VECTOR).equals(table)
    row = table["mentions"][0].as_py()
    assert [m["text"] for m in row] == ["Marie Curie", "Warsaw", "Paris"]
    assert [m["sentence"] for m in row] == [0, 0, 1]
    assert row[1]["types"] == []
    assert row[2]["types"] is None
    assert row[2]["score"] is None
    assert table["mention_embeddings"][0].as_py()[2] is None


def test_sliced_tables_are_read_from_their_own_rows() -> None:
    """A slice of a table gives the documents of the slice, not of the buffers behind it."""
    documents = [_document(), Document(text="none", sentences=no_spans()), _document()]
    table = write_documents(pa.table({"text": [d.text for d in documents]}), documents, ("sentences", "mentions"), None)
    last = read_documents(table.slice(2), "text", COLUMNS)[0]
    assert last.mentions.spans.tolist() == _document().mentions.spans.tolist()
    assert last.words.tolist() == [[0, 5], [6, 11]]


def test_internal_columns_are_dropped_by_their_prefix() -> None:
    """Source and annotation columns are untouched."""
    table = write_documents(pa.table({"text": ["x"]}), [_document()], ("sentences",), None)
    assert drop_internal(table).column_names == ["text", "sentences"]
