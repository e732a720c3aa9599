"""Rows of training data as examples of the three heads: ner, types, relations.

The windows come from the input builder that inference uses, so that both see the same tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.random import Generator

from luke_batch.arrays import IntArray
from luke_batch.model.windows import InputBuilder
from luke_batch.training.data import Row
from luke_batch.training.sampling import Example, SpanSampling, choose_negatives, spans_of_words

WordFinder = Callable[[str], IntArray]
"""The (n, 2) character ranges of a text's words."""

_NOTHING = np.zeros(0, np.int32)
_TOO_LONG = "window too long"


@dataclass
class _Draws:
    """Draws rows in proportion to their weights."""

    weights: Sequence[float]
    _sums: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self._sums = np.cumsum(np.asarray(self.weights, np.float64))

    def draw(self, rng: Generator) -> int:
        return int(np.searchsorted(self._sums, rng.random() * self._sums[-1], side="right"))


class NerTask:
    """Sentences with all gold spans and a sample of the others."""

    name = "ner"

    def __init__(
        self,
        rows: Sequence[Row],
        labels: Sequence[str],
        builder: InputBuilder,
        words: WordFinder,
        skipped: Counter[str],
        *,
        weights: Sequence[float] | None = None,
        max_words: int = 6,
        max_tokens: int = 180,
        sampling: SpanSampling | None = None,
    ) -> None:
        """`labels[0]` is the label of a span that is no mention."""
        self._rows = rows
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._builder = builder
        self._words = words
        self._skipped = skipped
        self._draws = _Draws(weights or [1.0] * len(rows))
        self._max_words = max_words
        self._max_tokens = max_tokens
        self._sampling = sampling or SpanSampling()

    def draw(self, rng: Generator) -> Example | None:
        return self.example(self._rows[self._draws.draw(rng)], rng)

    def example(self, row: Row, rng: Generator) -> Example | None:
        """The row with all its gold spans and a sample of the others."""
        words = self._words(row.text)
        unknown = {(item.start, item.end) for item in row.entities if item.label not in self._numbers}
        gold = {
            (item.start, item.end): self._numbers[item.label]
            for item in row.entities
            if item.label in self._numbers and (item.start, item.end) not in unknown
        }
        spans = spans_of_words(words, self._max_words)
        known = gold.keys() | unknown
        others = np.array([pair not in known for pair in map(tuple, spans.tolist())], bool)
        spans = spans[others]
        gold_spans = np.array(list(gold), np.int32).reshape(-1, 2)
        chosen = choose_negatives(row.text, spans, gold_spans, len(words), self._sampling, rng)
        if not len(gold) and not len(chosen):
            self._skipped["ner: no span"] += 1
            return None
        # Inference cuts at the bounds of all spans, or, where a filter leaves few, of those few.
        shown = np.concatenate([gold_spans, spans[chosen]])
        text, shift = led_by_space(row.text)
        every = np.concatenate([shown, spans]) if rng.random() < 0.75 else shown
        tokens = self._builder.tokenize(text, every + shift)
        targets = np.array([*gold.values(), *[0] * len(chosen)], np.int64)
        bounds = tokens.spans[: len(shown)]
        covered = np.flatnonzero(bounds[:, 1] > bounds[:, 0]).astype(np.int32)
        # A random order would let no position among the entities tell gold from sampled: order as at inference.
        covered = covered[np.lexsort((shown[covered, 1], shown[covered, 0]))][: self._sampling.dense]
        if len(tokens.ids) + 2 > self._max_tokens:
            self._skipped[f"ner: {_TOO_LONG}"] += 1
            return None
        if not len(covered):
            self._skipped["ner: no span"] += 1
            return None
        window = self._builder.mention_window(tokens, _NOTHING, _NOTHING, covered)
        return Example(window, targets[covered])


class TypesTask:
    """One mention a window, between markers, with its type."""

    name = "types"

    def __init__(
        self,
        rows: Sequence[Row],
        labels: Sequence[str],
        builder: InputBuilder,
        skipped: Counter[str],
        *,
        max_tokens: int = 180,
    ) -> None:
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._mentions = [
            (row, place) for row in rows for place, item in enumerate(row.entities) if item.label in self._numbers
        ]
        self._builder = builder
        self._skipped = skipped
        self._max_tokens = max_tokens

    def draw(self, rng: Generator) -> Example | None:
        row, place = self._mentions[int(rng.integers(len(self._mentions)))]
        return self.example(row, place)

    def example(self, row: Row, place: int) -> Example | None:
        """The window of one of the row's entities."""
        entity = row.entities[place]
        text, shift = led_by_space(row.text)
        tokens = self._builder.tokenize(text, np.array([[entity.start, entity.end]], np.int32) + shift)
        if len(tokens.ids) + 4 > self._max_tokens:
            self._skipped[f"types: {_TOO_LONG}"] += 1
            return None
        window = self._builder.typing_window(tokens, _NOTHING, _NOTHING)
        return Example(window, np.array([self._numbers[cast("str", entity.label)]], np.int64))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two entities of a row, their relations, and the labels that the annotation tells of (None: all)."""

    row: Row
    head: int
    tail: int
    labels: frozenset[str]
    known: frozenset[str] | None = None


def pairs_of(row: Row, known: frozenset[str] | None = None) -> list[Pair]:
    """All ordered pairs of the row's entities that do not overlap."""
    found: list[Pair] = []
    for head, first in enumerate(row.entities):
        for tail, second in enumerate(row.entities):
            if first.end <= second.start or second.end <= first.start:
                labels = {item.label for item in row.relations if (item.head, item.tail) == (head, tail)}
                found.append(Pair(row, head, tail, frozenset(labels), known))
    return found


class RelationsTask:
    """One ordered pair a window, between markers, with all its relations."""

    name = "relations"

    def __init__(
        self,
        pairs: Sequence[Pair],
        labels: Sequence[str],
        builder: InputBuilder,
        skipped: Counter[str],
        *,
        unrelated_weight: float = 1.0,
        max_tokens: int = 180,
    ) -> None:
        """`unrelated_weight`: how often a pair without relations is drawn, against one with some."""
        self._pairs = pairs
        self._labels = list(labels)
        self._builder = builder
        self._skipped = skipped
        self._draws = _Draws([1.0 if pair.labels else unrelated_weight for pair in pairs])
        self._max_tokens = max_tokens

    def draw(self, rng: Generator) -> Example | None:
        return self.example(self._pairs[self._draws.draw(rng)])

    def example(self, pair: Pair) -> Example | None:
        """The window of one pair."""
        text, shift = led_by_space(pair.row.text)
        ends = [pair.row.entities[place] for place in (pair.head, pair.tail)]
        spans = np.array([[item.start, item.end] for item in ends], np.int32) + shift
        tokens = self._builder.tokenize(text, spans)
        if len(tokens.ids) + 6 > self._max_tokens:
            self._skipped[f"relations: {_TOO_LONG}"] += 1
            return None
        window = self._builder.pair_window(tokens, _NOTHING, _NOTHING)
        targets = np.array([label in pair.labels for label in self._labels], np.float32)
        known = None if pair.known is None else np.array([label in pair.known for label in self._labels])
        return Example(window, targets, known)


def led_by_space(text: str) -> tuple[str, int]:
    """The text with a space before it unless one is there, and by how much its offsets move.

    The first word then has the "▁" that every other word has from its space (`prefix_space: first`).
    """
    return (text, 0) if text[:1].isspace() else (" " + text, 1)
