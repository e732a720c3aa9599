"""Documents into the columns of a table: flat NumPy arrays become nested Arrow lists, vectors are never
Python lists.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.base.contracts import load_contract
from luke_batch.document.columns import (
    ALIASES,
    ERROR,
    ERROR_TYPE,
    GAZETTEER,
    GIVEN,
    GIVEN_CANDIDATES,
    GIVEN_LABELS,
    GIVEN_TITLES,
    PAIRS,
    WORDS,
    set_column,
)
from luke_batch.document.results import RESULTS
from luke_batch.document.state import Document, Mentions, Types, no_spans

_SPAN = {"start": pa.int32(), "end": pa.int32()}
_PAIR = {"head": pa.int32(), "tail": pa.int32()}


def write_documents(
    table: pa.Table, documents: Sequence[Document], columns: Iterable[str], vector: pa.DataType | None
) -> pa.Table:
    """`table` with the annotation `columns` (names of annotations.v1) and the internal ones set from
    `documents`.

    Args:
        table: source columns; annotation columns that exist are replaced in place.
        documents: one for each row; a failed one gets nulls.
        columns: annotation columns to write.
        vector: fixed_size_list type of the embedding columns; None where none is written.
    """
    contract = load_contract("annotations")
    failed = np.array([document.failure is not None for document in documents], bool)
    for name in contract.types:
        if name in columns:
            kind = contract.field(name, vector).type
            table = set_column(table, name, _WRITERS[name](documents, failed, kind))
    errors = [
        None if f is None else {"stage": f.stage, "error_class": f.error_class, "message": f.message}
        for f in (document.failure for document in documents)
    ]
    table = set_column(table, ERROR, pa.array(errors, ERROR_TYPE))
    internal: dict[str, list[IntArray]] = {
        WORDS: [document.words for document in documents],
        GAZETTEER: [document.gazetteer for document in documents],
        ALIASES: [document.aliases for document in documents],
        GIVEN: [document.given for document in documents],
    }
    for name, spans in internal.items():
        table = set_column(table, name, _span_lists(spans, _SPAN))
    table = set_column(table, PAIRS, _span_lists([document.given_pairs for document in documents], _PAIR))
    texts = pa.list_(pa.string())
    labels = [document.given_labels for document in documents]
    table = set_column(table, GIVEN_LABELS, pa.array(labels, texts))
    titles = [document.given_titles for document in documents]
    table = set_column(table, GIVEN_TITLES, pa.array(titles, texts))
    named = [document.given_candidates for document in documents]
    return set_column(table, GIVEN_CANDIDATES, pa.array(named, pa.list_(texts)))


def _lists(lengths: list[int], values: pa.Array, failed: NDArray[np.bool_] | None) -> pa.ListArray:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    mask = None if failed is None else pa.array(failed)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=mask)


def _span_lists(
    spans: list[IntArray], members: dict[str, pa.DataType], failed: NDArray[np.bool_] | None = None
) -> pa.ListArray:
    flat = np.concatenate([*spans, no_spans()])
    values = pa.StructArray.from_arrays(
        [pa.array(np.ascontiguousarray(flat[:, i])) for i in range(2)],
        fields=[pa.field(name, kind) for name, kind in members.items()],
    )
    return _lists([len(s) for s in spans], values, failed)


def _write_sentences(documents: Sequence[Document], failed: NDArray[np.bool_], _: pa.DataType) -> pa.Array:
    empty = no_spans()
    spans = [empty if bad else d.sentences for d, bad in zip(documents, failed, strict=True)]
    return _span_lists(spans, _SPAN, failed)


def _write_mentions(documents: Sequence[Document], failed: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    none = Mentions.unlabelled(no_spans())
    groups = [none if bad else d.mentions for d, bad in zip(documents, failed, strict=True)]
    spans = np.concatenate([*(m.spans for m in groups), no_spans()])
    sentences = np.concatenate(
        [np.empty(0, np.int32), *(d.sentence_of(m.spans) for d, m in zip(documents, groups, strict=True))]
    )
    scores, title_scores = (
        np.concatenate([np.empty(0, np.float32), *found])
        for found in ([m.scores for m in groups], [m.title_scores for m in groups])
    )
    texts = [d.text[a:b] for d, m in zip(documents, groups, strict=True) for a, b in m.spans.tolist()]
    columns: dict[str, pa.Array] = {
        "start": pa.array(np.ascontiguousarray(spans[:, 0])),
        "end": pa.array(np.ascontiguousarray(spans[:, 1])),
        "text": pa.array(texts, pa.string()),
        "sentence": pa.array(sentences, mask=sentences < 0),
        "label": pa.array(list(chain.from_iterable(m.labels for m in groups)), pa.string()),
        "score": pa.array(scores, mask=np.isnan(scores)),
        "types": _type_lists(list(chain.from_iterable(m.types for m in groups))),
        "title": pa.array(list(chain.from_iterable(m.titles for m in groups)), pa.string()),
        "qid": pa.array(list(chain.from_iterable(m.qids for m in groups)), pa.string()),
        "title_score": pa.array(title_scores, mask=np.isnan(title_scores)),
    }
    members = [kind.value_type.field(i) for i in range(kind.value_type.num_fields)]
    arrays = [columns[m.name] for m in members]
    return _lists([len(m) for m in groups], pa.StructArray.from_arrays(arrays, fields=members), failed)


def _type_lists(types: list[Types | None]) -> pa.Array:
    flat = list(chain.from_iterable(entry or [] for entry in types))
    values = pa.StructArray.from_arrays(
        [
            pa.array([label for label, _ in flat], pa.string()),
            pa.array([score for _, score in flat], pa.float32()),
        ],
        names=["label", "score"],
    )
    return _lists([len(entry or []) for entry in types], values, np.array([e is None for e in types], bool))


def _write_relations(documents: Sequence[Document], failed: NDArray[np.bool_], _: pa.DataType) -> pa.Array:
    found = [d.relations for d in documents if d.failure is None and d.relations is not None]
    pairs = np.concatenate([*(r.pairs for r in found), no_spans()])
    arrays = [
        pa.array(np.ascontiguousarray(pairs[:, 0])),
        pa.array(np.ascontiguousarray(pairs[:, 1])),
        pa.array(list(chain.from_iterable(r.labels for r in found)), pa.string()),
        pa.array(np.concatenate([np.empty(0, np.float32), *(r.scores for r in found)])),
    ]
    values = pa.StructArray.from_arrays(arrays, names=["head", "tail", "label", "score"])
    lengths = [0 if d.failure or d.relations is None else len(d.relations.labels) for d in documents]
    return _lists(lengths, values, failed)


def _write_span_vectors(
    attribute: Literal["mention_vectors", "entity_vectors"],
    documents: Sequence[Document],
    failed: NDArray[np.bool_],
    kind: pa.DataType,
) -> pa.Array:
    found = [(len(document.mentions), getattr(document, attribute)) for document in documents]
    values, lengths = _vector_rows(found, failed, kind.value_type)
    return _lists(lengths, values, failed)


def _write_word_vectors(documents: Sequence[Document], failed: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    members = [kind.value_type.field(i) for i in range(kind.value_type.num_fields)]
    found = [(len(document.words), document.word_vectors) for document in documents]
    vectors, lengths = _vector_rows(found, failed, members[2].type)
    words = [no_spans() if bad else d.words for d, bad in zip(documents, failed, strict=True)]
    flat = np.concatenate([*words, no_spans()])
    bounds = [pa.array(np.ascontiguousarray(flat[:, side])) for side in range(2)]
    values = pa.StructArray.from_arrays([*bounds, vectors], fields=members)
    return _lists(lengths, values, failed)


def _vector_rows(
    found: Sequence[tuple[int, FloatArray | None]], failed: NDArray[np.bool_], kind: pa.DataType
) -> tuple[pa.Array, list[int]]:
    """The vectors of all documents one after another, and how many each has: for a document that has none the
    given number of nulls, for one that failed nothing.
    """
    groups = [
        np.full((0 if bad else count, kind.list_size), np.nan, np.float32) if bad or vectors is None
        else vectors
        for (count, vectors), bad in zip(found, failed, strict=True)
    ]  # fmt: skip
    flat = np.concatenate([*groups, np.empty((0, kind.list_size), np.float32)])
    return _fixed(flat, kind), [len(group) for group in groups]


def _write_text_vectors(documents: Sequence[Document], failed: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    missing = np.full(kind.list_size, np.nan, np.float32)
    rows = [
        missing if bad or d.text_vector is None else d.text_vector for d, bad in zip(documents, failed, strict=True)
    ]
    return _fixed(np.stack(rows) if rows else np.empty((0, kind.list_size), np.float32), kind)


def _fixed(vectors: FloatArray, kind: pa.DataType) -> pa.FixedSizeListArray:
    """fixed_size_list array of `vectors` (n, dimension); a row that begins with NaN becomes null."""
    missing = np.isnan(vectors[:, 0])
    values = np.where(missing[:, None], 0, vectors).astype(kind.value_type.to_pandas_dtype()).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(values), type=kind, mask=pa.array(missing))


def _write_coverage(documents: Sequence[Document], failed: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    rows = [
        None if bad else {
            "characters": len(d.text), "sentences": len(d.sentences), "windows": d.coverage.windows,
            "tokens": d.coverage.tokens, "spans_proposed": d.coverage.spans_proposed,
            "spans_scored": d.coverage.spans_scored,
            "dropped": [{"reason": r, "count": c} for r, c in sorted(d.coverage.dropped.items())],
        }
        for d, bad in zip(documents, failed, strict=True)
    ]  # fmt: skip
    return pa.array(rows, kind)


def _write_result(name: str, documents: Sequence[Document], failed: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    rows = [None if bad else d.results.get(name) for d, bad in zip(documents, failed, strict=True)]
    return pa.array(rows, kind)


_Writer = Callable[[Sequence[Document], NDArray[np.bool_], pa.DataType], pa.Array]
_WRITERS: dict[str, _Writer] = {
    "sentences": _write_sentences,
    "mentions": _write_mentions,
    "relations": _write_relations,
    "mention_embeddings": partial(_write_span_vectors, "mention_vectors"),
    "entity_embeddings": partial(_write_span_vectors, "entity_vectors"),
    "text_embedding": _write_text_vectors,
    "word_embeddings": _write_word_vectors,
    **{name: partial(_write_result, name) for name in RESULTS},
    "coverage": _write_coverage,
}
