"""Rows of training data as examples of the relations head: ordered pairs of a sentence's mentions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from luke_batch.model.inputs.windows import InputBuilder, Window
from luke_batch.training.data import Row
from luke_batch.training.sampling import Example
from luke_batch.training.tasks import NOTHING, TOO_LONG, Draws


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
    related: dict[tuple[int, int], set[str]] = defaultdict(set)
    for item in row.relations:
        related[item.head, item.tail].add(item.label)
    found: list[Pair] = []
    for head, first in enumerate(row.entities):
        for tail, second in enumerate(row.entities):
            if first.end <= second.start or second.end <= first.start:
                labels = frozenset(related.get((head, tail), ()))
                found.append(Pair(row, head, tail, labels, known))
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
        multi_label: bool = True,
        unrelated_weight: float = 1.0,
        max_tokens: int = 180,
    ) -> None:
        """`unrelated_weight`: how often a pair without relations is drawn, against one with some.

        Where a pair has one label at most (not `multi_label`), `labels[0]` is that of no relation.
        """
        self._pairs = pairs
        self._labels = list(labels)
        self._builder = builder
        self._skipped = skipped
        self._multi_label = multi_label
        self._unrelated_weight = unrelated_weight
        self._draws = Draws([1.0 if pair.labels else unrelated_weight for pair in pairs])
        self._max_tokens = max_tokens

    def draw(self, rng: Generator, share: float) -> Example | None:  # noqa: ARG002 - the same all along
        """An example of a random row; None where that row has none."""
        return self.example(self._pairs[self._draws.draw(rng)])

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self._pairs)

    def at(self, number: int, rng: Generator, share: float) -> Example | None:  # noqa: ARG002 - the same all along
        """An example of this pair; None where it is left out this time, or has none."""
        pair = self._pairs[number]
        left_out = not pair.labels and rng.random() >= self._unrelated_weight
        return None if left_out else self.example(pair)

    def example(self, pair: Pair) -> Example | None:
        """One pair with its label or labels."""
        window = self.window(pair)
        if window is None:
            return None
        if not self._multi_label:
            number = self._labels.index(next(iter(pair.labels))) if pair.labels else 0
            return Example(window, np.array([number], np.int64))
        targets = np.array([label in pair.labels for label in self._labels], np.float32)
        known = None if pair.known is None else np.array([label in pair.known for label in self._labels])
        return Example(window, targets, known)

    def window(self, pair: Pair) -> Window | None:
        """The window of one pair; None, and counted, where it has too many tokens or an entity none."""
        ends = [pair.row.entities[place] for place in (pair.head, pair.tail)]
        spans = np.array([[item.start, item.end] for item in ends], np.int32)
        tokens = self._builder.tokenize(pair.row.text, spans)
        if (tokens.spans[:, 0] == tokens.spans[:, 1]).any():
            self._skipped["relations: no token"] += 1
            return None
        if len(tokens.ids) + 6 > self._max_tokens:
            self._skipped[f"relations: {TOO_LONG}"] += 1
            return None
        return self._builder.pair_window(tokens, NOTHING, NOTHING)
