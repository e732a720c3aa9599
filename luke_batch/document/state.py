"""A document on its way through the heads: offsets in NumPy, everything else in plain Python.

All offsets are Unicode code points into `text`, [start, end), in int32 arrays of shape (n, 2).
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray

Types = list[tuple[str, float]]
Source = str | list[str | None] | None
Row = dict[str, object]
Result = Row | list[Row]


def no_spans() -> IntArray:
    """An empty (0, 2) array of offsets or pairs."""
    return np.empty((0, 2), np.int32)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a document cannot be annotated."""

    stage: str
    error_class: str
    message: str

    @classmethod
    def of(cls, error: BaseException, stage: str) -> Self:
        """One line of text from any exception; a stage that the error itself names wins."""
        message = " ".join(str(error).split()) or "no message"
        return cls(getattr(error, "stage", stage), type(error).__name__, message)


@dataclass(slots=True)
class Coverage:
    """What was read of a document, and what was left out with its reason."""

    windows: int = 0
    tokens: int = 0
    spans_proposed: int = 0
    spans_scored: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])

    def drop(self, reason: str, count: int = 1) -> None:
        """Count `count` things left out for `reason`; nothing is recorded for zero."""
        if count:
            self.dropped[reason] += count


@dataclass(slots=True)
class Mentions:
    """n mentions sorted by (start, -end), without exact duplicates. NaN stands for a missing score."""

    spans: IntArray
    labels: list[str | None]
    scores: FloatArray
    types: list[Types | None]
    titles: list[str | None]
    qids: list[str | None]
    title_scores: FloatArray

    @classmethod
    def unlabelled(cls, spans: IntArray) -> Self:
        """Mentions without labels, types and titles, in the order given."""
        count = len(spans)
        scores, title_scores = np.full((2, count), np.nan, np.float32)
        nothing = [None] * count
        return cls(spans, [*nothing], scores, [*nothing], [*nothing], [*nothing], title_scores)

    def __len__(self) -> int:
        return len(self.spans)

    def find(self, spans: IntArray) -> NDArray[np.intp]:
        """Index of each span of `spans` among these mentions; -1 where it is not one. Shape (len(spans),)."""
        if not len(self) or not len(spans):
            return np.full(len(spans), -1, np.intp)
        own, wanted = _keys(self.spans), _keys(spans)
        places = np.minimum(np.searchsorted(own, wanted), len(own) - 1)
        return np.where(own[places] == wanted, places, -1)


@dataclass(slots=True)
class Relations:
    """Labelled pairs: (n, 2) indices (head, tail) into the document's mentions."""

    pairs: IntArray
    labels: list[str]
    scores: FloatArray


@dataclass(slots=True)
class Document:
    """One text with what is known of it so far."""

    text: str
    sentences: IntArray
    words: IntArray = field(default_factory=no_spans)
    found: dict[str, IntArray] = field(default_factory=dict[str, IntArray])
    """Spans that proposers found in the text, by their names."""
    given: IntArray = field(default_factory=no_spans)
    given_labels: list[str | None] = field(default_factory=list[str | None])
    given_titles: list[str | None] = field(default_factory=list[str | None])
    given_candidates: list[list[str] | None] = field(default_factory=list[list[str] | None])
    given_pairs: IntArray = field(default_factory=no_spans)
    mentions: Mentions = field(default_factory=lambda: Mentions.unlabelled(no_spans()))
    relations: Relations | None = None
    mention_vectors: FloatArray | None = None
    """(mentions, dimension); a row of NaN stands for a mention without a vector."""
    entity_vectors: FloatArray | None = None
    """As `mention_vectors`, of the mentions whose titles the model has read."""
    text_vector: FloatArray | None = None
    word_vectors: FloatArray | None = None
    """(words, dimension); a row of NaN stands for a word without a token."""
    source: dict[str, Source] = field(default_factory=dict[str, Source])
    """The columns of INPUT that heads read, by their names there."""
    results: dict[str, Result] = field(default_factory=dict[str, Result])
    """What heads found of the text as a whole, by the columns of the contract."""
    passes: dict[str, object] = field(default_factory=dict[str, object])
    """What heads of one stage have read and tell one another; no column holds it."""
    coverage: Coverage = field(default_factory=Coverage)
    failure: Failure | None = None

    def sentence_of(self, spans: IntArray) -> IntArray:
        """Index of the sentence in which each span starts (the next one for a start between two); -1
        without sentences.
        """
        if not len(self.sentences):
            return np.full(len(spans), -1, np.int32)
        ends = self.sentences[:, 1]
        return np.minimum(np.searchsorted(ends, spans[:, 0], side="right"), len(ends) - 1).astype(np.int32)

    def merge_mentions(self, new: Mentions) -> None:
        """Unite `new` with the mentions there are.

        A span that exists keeps its place and takes over the new label and score where there is one.
        Relations and vectors follow their mentions.
        """
        old = self.mentions
        every = np.concatenate([old.spans, new.spans]).astype(np.int32)
        _, first, inverse = np.unique(_keys(every), return_index=True, return_inverse=True)
        spans = every[first]
        merged = Mentions.unlabelled(spans)
        for source, offset in ((old, 0), (new, len(old))):
            for index in range(len(source)):
                _take_over(merged, int(inverse[offset + index]), source, index)
        moved = inverse[: len(old)]
        if self.relations is not None and len(self.relations.pairs):
            self.relations.pairs = moved[self.relations.pairs].astype(np.int32)
        self.mention_vectors = _spread(self.mention_vectors, moved, len(spans))
        self.entity_vectors = _spread(self.entity_vectors, moved, len(spans))
        self.mentions = merged


def _keys(spans: IntArray) -> NDArray[np.int64]:
    """One sortable number for each span; its order is (start, -end)."""
    wide = spans.astype(np.int64)
    return (wide[:, 0] << 32) | (0x7FFFFFFF - wide[:, 1])


def _spread(vectors: FloatArray | None, places: NDArray[np.intp], count: int) -> FloatArray | None:
    """The rows of `vectors` at their `places` among `count`."""
    if vectors is None:
        return None
    found = np.full((count, vectors.shape[1]), np.nan, np.float32)
    found[places] = vectors
    return found


def _take_over(target: Mentions, place: int, source: Mentions, index: int) -> None:
    if source.labels[index] is not None:
        target.labels[place] = source.labels[index]
        target.scores[place] = source.scores[index]
    if source.types[index] is not None:
        target.types[place] = source.types[index]
    if source.titles[index] is not None:
        target.titles[place] = source.titles[index]
        target.qids[place] = source.qids[index]
        target.title_scores[place] = source.title_scores[index]
