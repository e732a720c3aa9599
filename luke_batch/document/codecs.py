"""How each column of a table holds what is known of documents: one codec a column, which reads and writes it.

Flat NumPy arrays become nested Arrow lists and back; vectors are never Python lists. `columns.py` lists the codecs; a
column that is not listed there has `Rows`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.document.state import Coverage, Document, Failure, Mentions, Relations, no_spans

Failed = NDArray[np.bool_]
"""(documents,) those of which nothing is written."""

ERROR_TYPE = pa.struct([("stage", pa.string()), ("error_class", pa.string()), ("message", pa.string())])


@dataclass(frozen=True)
class Codec(ABC):
    """One column of a table of documents."""

    name: str
    nullable: ClassVar[bool] = False
    """The column may be null in a row without an error."""

    @abstractmethod
    def write(self, documents: Sequence[Document], failed: Failed, kind: pa.DataType) -> pa.Array:
        """The column, of the contract's type `kind`; null for a failed document."""

    @abstractmethod
    def read(self, column: pa.ChunkedArray, documents: Sequence[Document]) -> None:
        """Set what `column` says of each document."""


@dataclass(frozen=True)
class PairLists(Codec):
    """list<struct<first, second: int32>>: an (n, 2) array that `get` finds and `put` sets."""

    get: Callable[[Document], IntArray]
    put: Callable[[Document, IntArray], None]
    members: tuple[str, str] = ("start", "end")

    def write(self, documents: Sequence[Document], failed: Failed, kind: pa.DataType) -> pa.Array:  # noqa: ARG002 - the contract's is this one
        """See Codec."""
        pairs = [no_spans() if bad else self.get(each) for each, bad in zip(documents, failed, strict=True)]
        values = pa.StructArray.from_arrays(_halves(pairs), names=list(self.members))
        return _lists([len(each) for each in pairs], values, failed)

    def read(self, column: pa.ChunkedArray, documents: Sequence[Document]) -> None:
        """See Codec."""
        for document, pairs in zip(documents, pair_lists(column, *self.members), strict=True):
            self.put(document, pairs)


@dataclass(frozen=True)
class Rows(Codec):
    """What a head says of a text as a whole, as rows or one row that the contract describes: `results[name]`.

    Null for a document that the head has not looked at.
    """

    nullable = True

    def write(self, documents: Sequence[Document], failed: Failed, kind: pa.DataType) -> pa.Array:
        """See Codec."""
        rows = [None if bad else each.results.get(self.name) for each, bad in zip(documents, failed, strict=True)]
        return pa.array(rows, kind)

    def read(self, column: pa.ChunkedArray, documents: Sequence[Document]) -> None:
        """See Codec."""
        for document, cell in zip(documents, column.to_pylist(), strict=True):
            if cell is not None:
                document.results[self.name] = cell


class MentionsColumn(Codec):
    """The mentions with labels, types and titles."""

    def write(self, documents: Sequence[Document], failed: Failed, kind: pa.DataType) -> pa.Array:
        """See Codec."""
        none = Mentions.unlabelled(no_spans())
        groups = [none if bad else each.mentions for each, bad in zip(documents, failed, strict=True)]
        spans = [group.spans for group in groups]
        paired = list(zip(documents, groups, strict=True))
        sentences = _joined((each.sentence_of(group.spans) for each, group in paired), np.int32)
        starts, ends = _halves(spans)
        columns: dict[str, pa.Array] = {
            "start": starts,
            "end": ends,
            "text": pa.array([each.text[a:b] for each, group in paired for a, b in group.spans.tolist()], pa.string()),
            "sentence": pa.array(sentences, mask=sentences < 0),
            "label": _texts(group.labels for group in groups),
            "score": _scores(group.scores for group in groups),
            "types": _type_lists(list(chain.from_iterable(group.types for group in groups))),
            "title": _texts(group.titles for group in groups),
            "qid": _texts(group.qids for group in groups),
            "title_score": _scores(group.title_scores for group in groups),
        }
        members = [kind.value_type.field(i) for i in range(kind.value_type.num_fields)]
        values = pa.StructArray.from_arrays([columns[member.name] for member in members], fields=members)
        return _lists([len(each) for each in spans], values, failed)

    def read(self, column: pa.ChunkedArray, documents: Sequence[Document]) -> None:
        """See Codec."""
        for document, cell, spans in zip(documents, column.to_pylist(), pair_lists(column), strict=True):
            rows = cast("list[dict[str, Any]]", cell or [])
            document.mentions = Mentions(
                spans,
                [row["label"] for row in rows],
                _with_nan(row["score"] for row in rows),
                [None if row["types"] is None else [(t["label"], t["score"]) for t in row["types"]] for row in rows],
                [row["title"] for row in rows],
                [row["qid"] for row in rows],
                _with_nan(row["title_score"] for row in rows),
            )


class RelationsColumn(Codec):
    """Labelled pairs of mentions."""

    def write(self, documents: Sequence[Document], failed: Failed, kind: pa.DataType) -> pa.Array:  # noqa: ARG002 - the contract's is this one
        """See Codec."""
        none = Relations(no_spans(), [], np.empty(0, np.float32))
        found = [none if bad else each.relations or none for each, bad in zip(documents, failed, strict=True)]
        arrays = [
            *_halves([each.pairs for each in found]),
            _texts(each.labels for each in found),
            pa.array(_joined((each.scores for each in found), np.float32)),
        ]
        values = pa.StructArray.from_arrays(arrays, names=["head", "tail", "label", "score"])
        return _lists([len(each.labels) for each in found], values, failed)

    def read(self, column: pa.ChunkedArray, documents: Sequence[Document]) -> None:
        """See Codec."""
        cells = zip(documents, column.to_pylist(), pair_lists(column, "head", "tail"), strict=True)
        for document, cell, pairs in cells:
            rows = cast("list[dict[str, Any]]", cell or [])
            document.relations = Relations(
                pairs, [row["label"] for row in rows], np.array([row["score"] for row in rows], np.float32)
            )


@dataclass(frozen=True)
class VectorLists(Codec):
    """A vector for each mention or word, null where it has none."""

    attribute: Literal["mention_vectors", "entity_vectors", "word_vectors"]

    def write(self, documents: Sequence[Document], failed: Failed, kind: pa.DataType) -> pa.Array:
        """See Codec."""
        by_word = self.attribute == "word_vectors"
        members = [kind.value_type.field(i) for i in range(kind.value_type.num_fields)] if by_word else []
        vector = members[2].type if by_word else kind.value_type
        none = np.empty((0, vector.list_size), np.float32)
        groups: list[FloatArray] = []
        for document, bad in zip(documents, failed, strict=True):
            found: FloatArray | None = getattr(document, self.attribute)
            if found is None:
                count = len(document.words) if by_word else len(document.mentions)
                found = np.full((count, vector.list_size), np.nan, np.float32)
            groups.append(none if bad else found)
        values = _fixed(np.concatenate([*groups, none]), vector)
        if by_word:
            words = [no_spans() if bad else each.words for each, bad in zip(documents, failed, strict=True)]
            values = pa.StructArray.from_arrays([*_halves(words), values], fields=members)
        return _lists([len(group) for group in groups], values, failed)

    def read(self, column: pa.ChunkedArray, documents: Sequence[Document]) -> None:
        """See Codec."""
        for document, cell in zip(documents, column, strict=True):
            values = cell.values if cell.is_valid else None
            if values is not None and self.attribute == "word_vectors":
                values = values.field("vector")
            setattr(document, self.attribute, None if values is None else _vectors(values))


class TextVector(Codec):
    """One vector for the document."""

    nullable = True

    def write(self, documents: Sequence[Document], failed: Failed, kind: pa.DataType) -> pa.Array:
        """See Codec."""
        missing = np.full(kind.list_size, np.nan, np.float32)
        found = [None if bad else each.text_vector for each, bad in zip(documents, failed, strict=True)]
        rows = [missing if vector is None else vector for vector in found]
        return _fixed(np.stack(rows) if rows else np.empty((0, kind.list_size), np.float32), kind)

    def read(self, column: pa.ChunkedArray, documents: Sequence[Document]) -> None:
        """See Codec."""
        for document, cell in zip(documents, column, strict=True):
            if cell.is_valid:
                document.text_vector = cell.values.to_numpy(zero_copy_only=False).astype(np.float32)


class CoverageColumn(Codec):
    """What was read of each document, and what was left out."""

    def write(self, documents: Sequence[Document], failed: Failed, kind: pa.DataType) -> pa.Array:
        """See Codec."""
        rows = [
            None
            if bad
            else {
                "characters": len(each.text),
                "sentences": len(each.sentences),
                "windows": each.coverage.windows,
                "tokens": each.coverage.tokens,
                "spans_proposed": each.coverage.spans_proposed,
                "spans_scored": each.coverage.spans_scored,
                "dropped": [{"reason": r, "count": c} for r, c in sorted(each.coverage.dropped.items())],
            }
            for each, bad in zip(documents, failed, strict=True)
        ]
        return pa.array(rows, kind)

    def read(self, column: pa.ChunkedArray, documents: Sequence[Document]) -> None:
        """See Codec."""
        for document, row in zip(documents, column.to_pylist(), strict=True):
            if row:
                numbers = (row[name] for name in ("windows", "tokens", "spans_proposed", "spans_scored"))
                document.coverage = Coverage(*numbers)
                for entry in row["dropped"]:
                    document.coverage.drop(entry["reason"], entry["count"])


class ErrorColumn(Codec):
    """Why a document failed; null where it did not."""

    def write(self, documents: Sequence[Document], failed: Failed, kind: pa.DataType) -> pa.Array:  # noqa: ARG002 - it is about the failed ones
        """See Codec."""
        failures = (each.failure for each in documents)
        rows = [f and {"stage": f.stage, "error_class": f.error_class, "message": f.message} for f in failures]
        return pa.array(rows, kind)

    def read(self, column: pa.ChunkedArray, documents: Sequence[Document]) -> None:
        """See Codec."""
        for document, row in zip(documents, column.to_pylist(), strict=True):
            document.failure = Failure(**row) if row else None


@dataclass(frozen=True)
class GivenTexts(Codec):
    """What given mentions came with: a list with an entry for each."""

    attribute: Literal["given_labels", "given_titles", "given_candidates"]

    def write(self, documents: Sequence[Document], failed: Failed, kind: pa.DataType) -> pa.Array:
        """See Codec."""
        rows = [None if bad else getattr(each, self.attribute) for each, bad in zip(documents, failed, strict=True)]
        return pa.array(rows, kind)

    def read(self, column: pa.ChunkedArray, documents: Sequence[Document]) -> None:
        """See Codec."""
        for document, cell in zip(documents, column.to_pylist(), strict=True):
            setattr(document, self.attribute, cell or [])


def pair_lists(column: pa.ChunkedArray, first: str = "start", second: str = "end") -> list[IntArray]:
    """An (n, 2) array for each row of a list<struct> column, without a Python object for each element."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    values = array.flatten()
    sides = [values.field(name).to_numpy(zero_copy_only=False) for name in (first, second)]
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.split(np.stack(sides, axis=1).astype(np.int32), np.cumsum(lengths)[:-1]) if len(lengths) else []


def _lists(lengths: list[int], values: pa.Array, missing: Failed) -> pa.ListArray:
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(missing))


def _joined(parts: Iterable[np.ndarray], kind: type[np.generic]) -> np.ndarray:
    return np.concatenate([np.empty(0, kind), *parts])


def _halves(pairs: Sequence[IntArray]) -> list[pa.Array]:
    """The two columns of all (n, 2) arrays, one after another."""
    flat = np.concatenate([*pairs, no_spans()])
    return [pa.array(np.ascontiguousarray(flat[:, side])) for side in range(2)]


def _texts(groups: Iterable[Sequence[str | None]]) -> pa.Array:
    return pa.array(list(chain.from_iterable(groups)), pa.string())


def _scores(groups: Iterable[FloatArray]) -> pa.Array:
    """NaN becomes null."""
    flat = _joined(groups, np.float32)
    return pa.array(flat, mask=np.isnan(flat))


def _with_nan(values: Iterable[float | None]) -> FloatArray:
    return np.array([np.nan if value is None else value for value in values], np.float32)


def _type_lists(types: list[list[tuple[str, float]] | None]) -> pa.Array:
    flat = list(chain.from_iterable(entry or [] for entry in types))
    labels = pa.array([label for label, _ in flat], pa.string())
    scores = pa.array([score for _, score in flat], pa.float32())
    values = pa.StructArray.from_arrays([labels, scores], names=["label", "score"])
    return _lists([len(entry or []) for entry in types], values, np.array([entry is None for entry in types], bool))


def _fixed(vectors: FloatArray, kind: pa.DataType) -> pa.FixedSizeListArray:
    """fixed_size_list array of `vectors` (n, dimension); a row that begins with NaN becomes null."""
    missing = np.isnan(vectors[:, 0])
    values = np.where(missing[:, None], 0, vectors).astype(kind.value_type.to_pandas_dtype()).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(values), type=kind, mask=pa.array(missing))


def _vectors(values: pa.FixedSizeListArray) -> FloatArray:
    """(n, dimension) float32; null entries become rows of NaN."""
    size = values.type.list_size
    vectors = np.full((len(values), size), np.nan, np.float32)
    filled = values.flatten().to_numpy(zero_copy_only=False)
    vectors[values.is_valid().to_numpy(zero_copy_only=False)] = filled.reshape(-1, size)
    return vectors
