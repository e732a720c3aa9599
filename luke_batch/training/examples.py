"""Rows of training data as numbered examples of the heads ner, types and relations.

The windows come from the input builder that inference uses, so that both see the same tokens.

A sentence of 30 words has 165 spans of up to six words; nearly all are trivially no mention. An example of the
ner head shows all gold spans and a sample of the others: half of it hard ones (they overlap a gold span, or
look like a name), half any. At inference all spans of a sentence share its windows, and spans attend to one
another: some sentences are shown so from the start, and many towards the end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.model.inputs.windows import InputBuilder, Window, chunks
from luke_batch.text.words import auto_spans, words
from luke_batch.training.batches import BoolArray, Example
from luke_batch.training.corpus import NO_LABELS, Row
from luke_batch.training.model import HeadSpec

SpanProposer = Callable[[Row], IntArray]
"""The (n, 2) character ranges of all candidate mentions of a row, as inference proposes them."""

NO_CONTEXT = np.zeros(0, np.int32)
TOO_LONG = "window too long"
_ALL_CUTS = 0.75
"""The share of sentences cut at the bounds of all candidates, as at inference; others only at shown spans."""


def proposer(max_words: int) -> SpanProposer:
    """The spans that `spans: auto` proposes, a row taken as one sentence."""

    def propose(row: Row) -> IntArray:
        whole = np.array([[0, len(row.text)]], np.int32)
        return auto_spans(row.text, words(row.text, row.lang), whole, max_words)

    return propose


@dataclass(frozen=True, slots=True)
class SpanSampling:
    """How many spans an example of the ner head shows."""

    fewest: int = 6
    per_word: float = 0.45
    most: int = 26
    whole_share: float = 0.05
    """The share of sentences that show one window of inference: all spans, or the part that fits."""
    late_whole_share: float = 0.4
    """The same for the last part of the run, from `late` on."""
    late: float = 0.55
    window: int = 128
    """Spans of one window at inference."""

    def shows_window(self, share: float, rng: Generator) -> bool:
        """Whether the next example is a window of inference, after this share of the run."""
        return bool(rng.random() < (self.late_whole_share if share >= self.late else self.whole_share))


def choose_negatives(
    text: str, spans: IntArray, gold: IntArray, words: int, sampling: SpanSampling, rng: Generator
) -> IntArray:
    """The indices of those `spans` (none of them gold) that an example shows."""
    middle = min(sampling.fewest + sampling.per_word * words, sampling.most)
    wanted = int(rng.integers(int(0.6 * middle), int(1.4 * middle) + 1))
    if wanted >= len(spans):
        return np.arange(len(spans), dtype=np.int32)
    overlapping = np.any((spans[:, :1] < gold[:, 1]) & (spans[:, 1:] > gold[:, 0]), axis=1)
    hard = np.flatnonzero(overlapping | _named(text, spans))
    picked = rng.choice(hard, min(len(hard), max(wanted, 2) // 2), replace=False)
    others = np.setdiff1d(np.arange(len(spans)), picked)
    rest = rng.choice(others, min(len(others), max(wanted - len(picked), 0)), replace=False)
    return np.sort(np.concatenate([picked, rest])).astype(np.int32)


def _named(text: str, spans: IntArray) -> BoolArray:
    """Spans that begin and end like a name: with a capital, a digit, or a letter that has no capital."""
    namelike = np.fromiter((not (letter.islower() or letter.isspace()) for letter in text), bool, len(text))
    letters = np.fromiter((letter.isalnum() for letter in text), bool, len(text))
    return namelike[spans[:, 0]] & letters[spans[:, 0]] & letters[spans[:, 1] - 1]


class NerExamples:
    """Sentences with all gold spans and a sample of the others."""

    name = "ner"

    def __init__(
        self,
        rows: Sequence[Row],
        labels: Sequence[str],
        builder: InputBuilder,
        propose: SpanProposer,
        skipped: Counter[str],
        *,
        max_tokens: int = 180,
        sampling: SpanSampling | None = None,
        likely: SpanProposer | None = None,
        change: Callable[[Row, Generator], Row] | None = None,
    ) -> None:
        """`labels[0]` is the label of a span that is no mention. `likely`: those of the proposed spans that
        inference looks at, where a scorer leaves out others. `change`: the row as it is shown this time. `skipped`
        counts by reason what has no example.
        """
        self._rows = rows
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._builder = builder
        self._propose = propose
        self._likely = likely or propose
        self._skipped = skipped
        self._max_tokens = max_tokens
        self._sampling = sampling or SpanSampling()
        self._change = change

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def at(self, number: int, rng: Generator, share: float) -> Example | None:
        """The row with its gold spans and a sample of the others, or now and then as inference shows it."""
        row, window = self._rows[number], self._sampling.shows_window(share, rng)
        row = row if self._change is None else self._change(row, rng)
        spans = self._propose(row)
        unknown = {item.span for item in row.entities if item.label not in self._numbers}
        gold = {
            item.span: self._numbers[item.label]
            for item in row.entities
            if item.label in self._numbers and item.span not in unknown
        }
        others = self._likely(row) if window else spans
        others = others[
            np.array([span not in gold and span not in unknown for span in map(tuple, others.tolist())], bool)
        ]
        positives = np.array(list(gold), np.int32).reshape(-1, 2)
        if not window:
            count = len(np.unique(spans[:, 0]))
            others = others[choose_negatives(row.text, others, positives, count, self._sampling, rng)]
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
        return Example(self._builder.mention_window(tokens, NO_CONTEXT, NO_CONTEXT, covered), targets[covered])


@dataclass(frozen=True, slots=True)
class MarkedPlace:
    """What a window of types or relations has between markers, and what the annotation says of it."""

    row: Row
    entities: tuple[int, ...]
    """One mention, or head and tail, by their positions among the row's entities."""
    labels: frozenset[str]
    known: frozenset[str] | None = None
    """The labels that the annotation tells of; None: all."""


def mention_places(rows: Iterable[Row], *, together: bool) -> list[MarkedPlace]:
    """The mentions of known label; together: those of one span are one, with all their labels."""
    places: list[MarkedPlace] = []
    for row in rows:
        found: dict[object, list[int]] = {}
        for number, item in enumerate(row.entities):
            if item.label is not None:
                found.setdefault(item.span if together else number, []).append(number)
        for numbers in found.values():
            labels = frozenset(str(row.entities[number].label) for number in numbers)
            places.append(MarkedPlace(row, (numbers[0],), labels))
    return places


def pair_places(row: Row) -> list[MarkedPlace]:
    """All ordered pairs of the row's entities that do not overlap."""
    related: dict[tuple[int, int], set[str]] = defaultdict(set)
    for item in row.relations:
        related[item.head, item.tail].add(item.label)
    return [
        MarkedPlace(row, (head, tail), frozenset(related.get((head, tail), ())))
        for head, first in enumerate(row.entities)
        for tail, second in enumerate(row.entities)
        if first.end <= second.start or second.end <= first.start
    ]


def relation_places(rows: Iterable[Row], spec: HeadSpec | None, *, given: bool) -> list[MarkedPlace]:
    """The ordered pairs of all rows, with those of their labels that the head has; None: with all.

    given: only those that stand in the data. Where a pair may have one label, it is the first by name.
    """
    places: list[MarkedPlace] = []
    for row in rows:
        named = {(item.head, item.tail) for item in row.relations}
        for place in pair_places(row):
            if given and place.entities not in named:
                continue
            labels = sorted(place.labels - NO_LABELS)
            if spec is not None:
                labels = [label for label in labels if label in spec.labels]
                labels = labels if spec.multi_label else labels[:1]
            places.append(replace(place, labels=frozenset(labels)))
    return places


class MarkedExamples:
    """One mention (types) or one ordered pair (relations) a window, between markers, with its labels."""

    def __init__(
        self,
        name: str,
        places: Sequence[MarkedPlace],
        labels: Sequence[str],
        builder: InputBuilder,
        skipped: Counter[str],
        *,
        multi_label: bool,
        unlabelled_share: float = 1.0,
        max_tokens: int = 180,
    ) -> None:
        """`unlabelled_share`: how often a place without label is shown.

        Where a place has one label at most (not `multi_label`), `labels[0]` is that of none.
        """
        self.name = name
        self._places = places
        self._labels = list(labels)
        self._builder = builder
        self._skipped = skipped
        self._multi_label = multi_label
        self._unlabelled_share = unlabelled_share
        self._max_tokens = max_tokens

    def __len__(self) -> int:
        """How many places there are."""
        return len(self._places)

    def at(self, number: int, rng: Generator, share: float) -> Example | None:  # noqa: ARG002 - the same all along
        """An example of this place; None where it is left out this time, or has none."""
        place = self._places[number]
        if not place.labels and rng.random() >= self._unlabelled_share:
            return None
        window = self.window(place)
        return None if window is None else Example(window, *self._targets(place))

    def _targets(self, place: MarkedPlace) -> tuple[NDArray[np.generic], BoolArray | None]:
        if not self._multi_label:
            return np.array([self._labels.index(next(iter(place.labels))) if place.labels else 0], np.int64), None
        known = None if place.known is None else np.array([label in place.known for label in self._labels])
        return np.array([label in place.labels for label in self._labels], np.float32), known

    def window(self, place: MarkedPlace) -> Window | None:
        """The window of a place; None, and counted, where it has too many tokens or an entity none."""
        spans = np.array([place.row.entities[number].span for number in place.entities], np.int32)
        tokens = self._builder.tokenize(place.row.text, spans)
        if (tokens.spans[:, 0] == tokens.spans[:, 1]).any():
            self._skipped[f"{self.name}: no token"] += 1
            return None
        if len(tokens.ids) + 2 + 2 * len(spans) > self._max_tokens:
            self._skipped[f"{self.name}: {TOO_LONG}"] += 1
            return None
        make = self._builder.typing_window if len(spans) == 1 else self._builder.pair_window
        return make(tokens, NO_CONTEXT, NO_CONTEXT)
