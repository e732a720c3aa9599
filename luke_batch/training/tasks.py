"""Rows of training data as examples of the heads that read one mention: ner and types.

The windows come from the input builder that inference uses, so that both see the same tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.random import Generator

from luke_batch.base.arrays import IntArray
from luke_batch.model.inputs.windows import InputBuilder, Window, chunks
from luke_batch.training.data import Entity, Row
from luke_batch.training.sampling import Example, SpanSampling, choose_negatives

Proposer = Callable[[Row], IntArray]
"""The (n, 2) character ranges of all candidate mentions of a row, as inference proposes them."""

NOTHING = np.zeros(0, np.int32)
TOO_LONG = "window too long"
_ALL_CUTS = 0.75
"""The share of sentences cut at the bounds of all candidates, as at inference; others only at shown spans."""


@dataclass
class Draws:
    """Draws rows in proportion to their weights."""

    weights: Sequence[float]
    _sums: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self._sums = np.cumsum(np.asarray(self.weights, np.float64))

    def draw(self, rng: Generator) -> int:
        """The number of a row."""
        return int(np.searchsorted(self._sums, rng.random() * self._sums[-1], side="right"))


class NerTask:
    """Sentences with all gold spans and a sample of the others."""

    name = "ner"

    def __init__(
        self,
        rows: Sequence[Row],
        labels: Sequence[str],
        builder: InputBuilder,
        propose: Proposer,
        skipped: Counter[str],
        *,
        weights: Sequence[float] | None = None,
        max_tokens: int = 180,
        sampling: SpanSampling | None = None,
        likely: Proposer | None = None,
    ) -> None:
        """`labels[0]` is the label of a span that is no mention. `likely`: those of the proposed spans that
        inference looks at, where a scorer leaves out others.
        """
        self._likely = likely or propose
        self._rows = rows
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._builder = builder
        self._propose = propose
        self._skipped = skipped
        self._draws = Draws(weights or [1.0] * len(rows))
        self._max_tokens = max_tokens
        self._sampling = sampling or SpanSampling()

    def draw(self, rng: Generator, share: float) -> Example | None:
        """An example of a random row; None where that row has none."""
        row = self._rows[self._draws.draw(rng)]
        return self.example(row, rng, self._sampling.shows_window(share, rng))

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def at(self, number: int, rng: Generator, share: float) -> Example | None:
        """An example of this row; None where it has none."""
        return self.example(self._rows[number], rng, self._sampling.shows_window(share, rng))

    def example(self, row: Row, rng: Generator, window: bool) -> Example | None:
        """The row with all its gold spans and a sample of the others, or (`window`) as inference shows it."""
        spans = self._propose(row)
        words = len(np.unique(spans[:, 0]))
        unknown = {(item.start, item.end) for item in row.entities if item.label not in self._numbers}
        gold = {
            (item.start, item.end): self._numbers[item.label]
            for item in row.entities
            if item.label in self._numbers and (item.start, item.end) not in unknown
        }
        known = gold.keys() | unknown
        others = self._likely(row) if window else spans
        others = others[np.array([pair not in known for pair in map(tuple, others.tolist())], bool)]
        positives = np.array(list(gold), np.int32).reshape(-1, 2)
        if not window:
            others = others[choose_negatives(row.text, others, positives, words, self._sampling, rng)]
        shown = np.concatenate([positives, others])
        shown = shown[np.lexsort((shown[:, 1], shown[:, 0]))]
        parts = chunks(len(shown), self._sampling.window)
        if not parts:
            self._skipped["ner: no span"] += 1
            return None
        shown = shown[parts[int(rng.integers(len(parts)))]]
        every = np.concatenate([shown, spans]) if rng.random() < _ALL_CUTS else shown
        return self._example(row, shown, every, gold)

    def _example(self, row: Row, shown: IntArray, every: IntArray, gold: dict[tuple[int, int], int]) -> Example | None:
        """The spans `shown` in a text that is cut at the bounds of `every`, which begins with them."""
        tokens = self._builder.tokenize(row.text, every)
        if len(tokens.ids) + 2 > self._max_tokens:
            self._skipped[f"ner: {TOO_LONG}"] += 1
            return None
        bounds = tokens.spans[: len(shown)]
        covered = np.flatnonzero(bounds[:, 1] > bounds[:, 0]).astype(np.int32)
        if not len(covered):
            self._skipped["ner: no span"] += 1
            return None
        targets = np.array([gold.get((start, end), 0) for start, end in shown.tolist()], np.int64)
        return Example(self._builder.mention_window(tokens, NOTHING, NOTHING, covered), targets[covered])


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
        multi_label: bool = False,
        max_tokens: int = 180,
    ) -> None:
        """`multi_label`: entities of one span are one mention with all their labels."""
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._multi_label = multi_label
        self._mentions = [
            (row, place)
            for row in rows
            for place, item in enumerate(row.entities)
            if item.label in self._numbers and not (multi_label and _repeats(row, place))
        ]
        self._builder = builder
        self._skipped = skipped
        self._max_tokens = max_tokens

    def draw(self, rng: Generator, share: float) -> Example | None:  # noqa: ARG002 - the same all along
        """An example of a random row; None where that row has none."""
        row, place = self._mentions[int(rng.integers(len(self._mentions)))]
        return self.example(row, place)

    def __len__(self) -> int:
        """How many mentions there are."""
        return len(self._mentions)

    def at(self, number: int, rng: Generator, share: float) -> Example | None:  # noqa: ARG002 - the same all along
        """An example of this mention; None where it has none."""
        return self.example(*self._mentions[number])

    def example(self, row: Row, place: int) -> Example | None:
        """One of the row's entities with its label, or with all labels of its span."""
        entity = row.entities[place]
        window = self.window(row, entity.start, entity.end)
        if window is None:
            return None
        if self._multi_label:
            named = {item.label for item in row.entities if _span(item) == _span(entity)}
            return Example(window, np.array([label in named for label in self._numbers], np.float32))
        return Example(window, np.array([self._numbers[cast("str", entity.label)]], np.int64))

    def window(self, row: Row, start: int, end: int) -> Window | None:
        """The window of one mention; None, and counted, where it has too many tokens or the mention none."""
        tokens = self._builder.tokenize(row.text, np.array([[start, end]], np.int32))
        if tokens.spans[0, 0] == tokens.spans[0, 1]:
            self._skipped["types: no token"] += 1
            return None
        if len(tokens.ids) + 4 > self._max_tokens:
            self._skipped[f"types: {TOO_LONG}"] += 1
            return None
        return self._builder.typing_window(tokens, NOTHING, NOTHING)


def _span(entity: Entity) -> tuple[int, int]:
    return entity.start, entity.end


def _repeats(row: Row, place: int) -> bool:
    """Whether an entity before this one has the same span."""
    return _span(row.entities[place]) in map(_span, row.entities[:place])
