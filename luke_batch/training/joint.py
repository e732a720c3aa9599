"""Rows as examples of joint heads: one window a sentence, in which every mention is a [MASK] entity.

A pass for each mention or pair (Yamada et al. 2020, sections 4.1 and 4.2) reads a sentence with n mentions n or
n (n - 1) times. Without markers one pass serves all of them, as Zhong and Chen 2021 (section 3.3) batch the pairs of a
sentence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.model.inputs.windows import InputBuilder, Window
from luke_batch.training.batches import IGNORED, BoolArray, Example, Targets
from luke_batch.training.corpus import NO_LABELS, Row
from luke_batch.training.examples import NO_CONTEXT, TOO_LONG

Change = Callable[[Row, Generator], Row]
"""A row as it is shown this time: with other letters, or with more mentions."""


class JointExamples(ABC):
    """Sentences with all their mentions. Mentions of one span are one, with the labels of all."""

    def __init__(
        self,
        name: str,
        rows: Sequence[Row],
        labels: Sequence[str],
        builder: InputBuilder,
        skipped: Counter[str],
        *,
        change: Change | None = None,
        max_tokens: int = 180,
        most: int = 40,
    ) -> None:
        """`most`: mentions of a window; of more, a random part is shown. `skipped` counts what has no example."""
        self.name = name
        self._rows = rows
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._builder = builder
        self._skipped = skipped
        self._change = change
        self._max_tokens = max_tokens
        self._most = most

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def at(self, number: int, rng: Generator, share: float) -> Example | None:  # noqa: ARG002 - the same all along
        """The row's window; None, and counted, where it is too long or no mention has a token."""
        row = self._rows[number] if self._change is None else self._change(self._rows[number], rng)
        every = np.array([item.span for item in row.entities], np.int32).reshape(-1, 2)
        spans, places = np.unique(every, axis=0, return_inverse=True)
        tokens = self._builder.tokenize(row.text, spans)
        if len(tokens.ids) + 2 > self._max_tokens:
            self._skipped[f"{self.name}: {TOO_LONG}"] += 1
            return None
        shown = np.flatnonzero(tokens.spans[:, 1] > tokens.spans[:, 0]).astype(np.int32)
        if len(shown) > self._most:
            shown = np.sort(rng.choice(shown, self._most, replace=False))
        if not len(shown):
            self._skipped[f"{self.name}: no mention"] += 1
            return None
        window = self._builder.mention_window(tokens, NO_CONTEXT, NO_CONTEXT, shown)
        order = np.full(len(spans), -1, np.int32)
        order[shown] = np.arange(len(shown))
        return self._example(window, row, spans[shown], order[places.reshape(-1)])

    def _example(self, window: Window, row: Row, spans: IntArray, places: IntArray) -> Example:
        return Example(window, *self.targets(row, spans, places))

    @abstractmethod
    def targets(self, row: Row, spans: IntArray, places: IntArray) -> Targets:
        """What the head should say of the (n, 2) mentions that are shown; `places`, (entities of the row,), is where
        each stands among these, -1 for one that is not shown.
        """


class SharedWindows(JointExamples):
    """The windows of several joint heads: one pass teaches all of them."""

    def __init__(self, name: str, parts: Sequence[JointExamples], *arguments: Any, **options: Any) -> None:
        """`parts`: by their names what each head learns; the rest as for JointExamples."""
        super().__init__(name, *arguments, **options)
        self._parts = parts

    def _example(self, window: Window, row: Row, spans: IntArray, places: IntArray) -> Example:
        told = {part.name: part.targets(row, spans, places) for part in self._parts}
        return Example(window, *self.targets(row, spans, places), told)

    def targets(self, row: Row, spans: IntArray, places: IntArray) -> Targets:  # noqa: ARG002 - each part has its own
        """None beside those of the heads."""
        return np.zeros(0, np.int64), None


class JointTypes(JointExamples):
    """Targets (n,): the label of each mention; the first by name of several, `IGNORED` without one."""

    def targets(self, row: Row, spans: IntArray, places: IntArray) -> Targets:
        """See JointExamples."""
        found = np.full(len(spans), IGNORED, np.int64)
        named = sorted(
            zip(row.entities, places.tolist(), strict=True), key=lambda each: each[0].label or "", reverse=True
        )
        for item, place in named:
            if place >= 0 and item.label in self._numbers:
                found[place] = self._numbers[item.label]
        return found, None


class JointMultiTypes(JointExamples):
    """Targets (n, labels): whether each label holds of each mention; unknown for mentions without any."""

    def targets(self, row: Row, spans: IntArray, places: IntArray) -> Targets:
        """See JointExamples."""
        found = np.zeros((len(spans), len(self._numbers)), np.float32)
        for item, place in zip(row.entities, places.tolist(), strict=True):
            if place >= 0 and item.label in self._numbers:
                found[place, self._numbers[item.label]] = 1
        return found, np.broadcast_to(found.any(axis=1, keepdims=True), found.shape)


def _apart(spans: IntArray) -> BoolArray:
    """(n, n): which of the (n, 2) mentions do not overlap; none does itself."""
    starts, ends = spans[:, 0], spans[:, 1]
    return np.maximum(starts[:, None], starts) >= np.minimum(ends[:, None], ends)


class JointRelations(JointExamples):
    """Targets (n, n, labels): whether a label holds between head and tail.

    Unknown where two overlap and, `given`, of pairs that do not stand in the data.
    """

    def __init__(self, *arguments: Any, given: bool = False, **options: Any) -> None:
        """The rest as for JointExamples."""
        super().__init__(*arguments, **options)
        self._given = given

    def targets(self, row: Row, spans: IntArray, places: IntArray) -> Targets:
        """See JointExamples."""
        count = len(spans)
        found = np.zeros((count, count, len(self._numbers)), np.float32)
        asked = np.full((count, count), not self._given)
        for item in row.relations:
            head, tail = int(places[item.head]), int(places[item.tail])
            if min(head, tail) >= 0:
                asked[head, tail] = True
                if item.label not in NO_LABELS and item.label in self._numbers:
                    found[head, tail, self._numbers[item.label]] = 1
        return found, (asked & _apart(spans))[..., None] & self.known(row, found)

    def known(self, row: Row, found: NDArray[np.float32]) -> BoolArray:  # noqa: ARG002 - for annotation that knows less
        """Of which of the targets the annotation tells: all."""
        return np.ones(found.shape, bool)


class JointOneRelation(JointExamples):
    """Targets (n, n): the label from head to tail, the first by name of several; 0, the label of none, without one.

    `IGNORED` where two overlap and, `given`, of pairs that do not stand in the data.
    """

    def __init__(self, *arguments: Any, given: bool, **options: Any) -> None:
        """The rest as for JointExamples."""
        super().__init__(*arguments, **options)
        self._given = given

    def targets(self, row: Row, spans: IntArray, places: IntArray) -> Targets:
        """See JointExamples."""
        found = np.full((len(spans), len(spans)), IGNORED if self._given else 0, np.int64)
        for item in sorted(row.relations, key=lambda each: each.label, reverse=True):
            head, tail = int(places[item.head]), int(places[item.tail])
            if min(head, tail) >= 0:
                found[head, tail] = self._numbers.get(item.label, 0)
        found[~_apart(spans)] = IGNORED
        return found, None
