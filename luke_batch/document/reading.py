"""Documents out of a table that carries what earlier stages found."""

from collections.abc import Collection
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.document.columns import (
    ALIASES,
    ERROR,
    GAZETTEER,
    GIVEN,
    GIVEN_CANDIDATES,
    GIVEN_LABELS,
    GIVEN_TITLES,
    PAIRS,
    WORDS,
)
from luke_batch.document.results import RESULTS
from luke_batch.document.source import source_column
from luke_batch.document.state import Coverage, Document, Failure, Mentions, Relations, no_spans
from luke_batch.document.texts import source_values, texts_of


def read_documents(
    table: pa.Table, text_column: str, columns: Collection[str], source_columns: Collection[str] = ()
) -> list[Document]:
    """Documents of a table that has passed `write_documents`; (one for each row, failed ones without
    annotations).

    Args:
        table: what an earlier stage wrote.
        text_column: where the text is.
        columns: the annotation columns that the job writes; others with such names are the source's.
        source_columns: columns of the source, text or lists of texts, that heads read.
    """
    texts = texts_of(source_column(table, text_column))
    failures = cast("list[dict[str, str] | None]", _cells(table, ERROR, len(texts)))
    sentences, words = _spans(table, "sentences", "start", "end"), _spans(table, WORDS, "start", "end")
    gazetteer, aliases = _spans(table, GAZETTEER, "start", "end"), _spans(table, ALIASES, "start", "end")
    given = _spans(table, GIVEN, "start", "end")
    pairs = _spans(table, PAIRS, "head", "tail")
    labels, titles, candidates = (
        _cells(table, name, len(texts)) for name in (GIVEN_LABELS, GIVEN_TITLES, GIVEN_CANDIDATES)
    )
    documents: list[Document] = []
    for row, text in enumerate(texts):
        failed = failures[row]
        documents.append(
            Document(
                text=text or "",
                sentences=sentences[row],
                words=words[row],
                gazetteer=gazetteer[row],
                aliases=aliases[row],
                given=given[row],
                given_labels=labels[row] or [],
                given_titles=titles[row] or [],
                given_candidates=candidates[row] or [],
                given_pairs=pairs[row],
                failure=Failure(**failed) if failed else None,
            )
        )
    for name in source_columns:
        for document, value in zip(documents, source_values(table, name), strict=True):
            document.source[name] = value
    _read_annotations(table.select([name for name in table.column_names if name in columns]), documents)
    return documents


def _read_annotations(table: pa.Table, documents: list[Document]) -> None:
    columns = {
        "mentions": _set_mentions,
        "relations": _set_relations,
        "mention_embeddings": _set_mention_vectors,
        "entity_embeddings": _set_entity_vectors,
        "text_embedding": _set_text_vector,
        "word_embeddings": _set_word_vectors,
        "coverage": _set_coverage,
    }
    for name, read in columns.items():
        if name in table.column_names:
            read(table, documents)
    for name in RESULTS:
        for document, cell in zip(documents, _cells(table, name, len(documents)), strict=True):
            if cell is not None:
                document.results[name] = cell


def _set_mentions(table: pa.Table, documents: list[Document]) -> None:
    cells = zip(_cells(table, "mentions", 0), _spans(table, "mentions", "start", "end"), strict=True)
    for document, (rows, spans) in zip(documents, cells, strict=True):
        document.mentions = _mentions(spans, rows or [])


def _set_relations(table: pa.Table, documents: list[Document]) -> None:
    cells = zip(_cells(table, "relations", 0), _spans(table, "relations", "head", "tail"), strict=True)
    for document, (found, pairs) in zip(documents, cells, strict=True):
        rows = found or []
        scores = np.array([row["score"] for row in rows], np.float32)
        document.relations = Relations(pairs, [row["label"] for row in rows], scores)


def _set_mention_vectors(table: pa.Table, documents: list[Document]) -> None:
    for document, cell in zip(documents, table["mention_embeddings"], strict=True):
        document.mention_vectors = _vectors(cell.values) if cell.is_valid else None


def _set_entity_vectors(table: pa.Table, documents: list[Document]) -> None:
    for document, cell in zip(documents, table["entity_embeddings"], strict=True):
        document.entity_vectors = _vectors(cell.values) if cell.is_valid else None


def _set_word_vectors(table: pa.Table, documents: list[Document]) -> None:
    for document, cell in zip(documents, table["word_embeddings"], strict=True):
        document.word_vectors = _vectors(cell.values.field("vector")) if cell.is_valid else None


def _set_text_vector(table: pa.Table, documents: list[Document]) -> None:
    for document, cell in zip(documents, table["text_embedding"], strict=True):
        if cell.is_valid:
            document.text_vector = cell.values.to_numpy(zero_copy_only=False).astype(np.float32)


def _set_coverage(table: pa.Table, documents: list[Document]) -> None:
    for document, row in zip(documents, _cells(table, "coverage", 0), strict=True):
        if row:
            document.coverage = _coverage(row)


def _mentions(spans: IntArray, rows: list[dict[str, Any]]) -> Mentions:
    scores = [np.nan if row["score"] is None else row["score"] for row in rows]
    types = [None if row["types"] is None else [(t["label"], t["score"]) for t in row["types"]] for row in rows]
    title_scores = [np.nan if row["title_score"] is None else row["title_score"] for row in rows]
    return Mentions(
        spans,
        [row["label"] for row in rows],
        np.array(scores, np.float32),
        types,
        [row["title"] for row in rows],
        [row["qid"] for row in rows],
        np.array(title_scores, np.float32),
    )


def _coverage(row: dict[str, Any]) -> Coverage:
    coverage = Coverage(row["windows"], row["tokens"], row["spans_proposed"], row["spans_scored"])
    for entry in row["dropped"]:
        coverage.drop(entry["reason"], entry["count"])
    return coverage


def _vectors(values: pa.FixedSizeListArray) -> FloatArray:
    """(n, dimension) float32; null entries become rows of NaN."""
    size = values.type.list_size
    filled = values.flatten().to_numpy(zero_copy_only=False)
    vectors = np.full((len(values), size), np.nan, np.float32)
    vectors[values.is_valid().to_numpy(zero_copy_only=False)] = filled.reshape(-1, size)
    return vectors


def _cells(table: pa.Table, name: str, rows: int) -> list[Any]:
    return table[name].to_pylist() if name in table.column_names else [None] * rows


def _spans(table: pa.Table, name: str, first: str, second: str) -> list[IntArray]:
    """One (n, 2) array for each row of a list<struct> column, without a Python object for each element."""
    if name not in table.column_names:
        return [no_spans() for _ in range(table.num_rows)]
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    values = column.flatten()
    flat = np.stack([_numpy(values.field(first)), _numpy(values.field(second))], axis=1).astype(np.int32)
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.split(flat, np.cumsum(lengths)[:-1]) if len(lengths) else []


def _numpy(array: pa.Array) -> NDArray[np.int32]:
    return cast("NDArray[np.int32]", array.to_numpy(zero_copy_only=False))
