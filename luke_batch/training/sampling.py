"""Which spans of a sentence a training example shows, and how examples form batches.

A sentence of 30 words has 165 spans of up to six words; nearly all are trivially no mention. Shown are all
gold spans and a sample of the others: half of it hard ones (they overlap a gold span, or look like a name),
half any. At inference all spans of a sentence share its windows, and spans attend to one another: some
sentences are shown so from the start, and many towards the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.model.inputs.windows import Window

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SpanSampling:
    """How many spans an example shows."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One window with what its entities should be."""

    window: Window
    targets: NDArray[Any]
    """(entities,) label numbers, or (labels,) 0 and 1 for a multi-label head."""
    known: BoolArray | None = None
    """(labels,) those of which the annotation tells whether they hold; None: all."""

    @property
    def words(self) -> int:
        """How many tokens its window has."""
        return len(self.window.token_ids)

    @property
    def entities(self) -> int:
        """How many entities its window has."""
        return len(self.window.entity_ids)


def choose_negatives(
    text: str, spans: IntArray, gold: IntArray, words: int, sampling: SpanSampling, rng: Generator
) -> IntArray:
    """The indices of those `spans` (none of them gold) that an example shows."""
    middle = min(sampling.fewest + sampling.per_word * words, sampling.most)
    wanted = int(rng.integers(int(0.6 * middle), int(1.4 * middle) + 1))
    if wanted >= len(spans):
        return np.arange(len(spans), dtype=np.int32)
    hard = np.flatnonzero(_overlaps(spans, gold) | _named(text, spans))
    picked = rng.choice(hard, min(len(hard), max(wanted, 2) // 2), replace=False)
    others = np.setdiff1d(np.arange(len(spans)), picked)
    rest = rng.choice(others, min(len(others), max(wanted - len(picked), 0)), replace=False)
    return np.sort(np.concatenate([picked, rest])).astype(np.int32)


def _overlaps(spans: IntArray, gold: IntArray) -> BoolArray:
    if not len(gold):
        return np.zeros(len(spans), dtype=bool)
    return np.any((spans[:, :1] < gold[:, 1]) & (spans[:, 1:] > gold[:, 0]), axis=1)


def _named(text: str, spans: IntArray) -> BoolArray:
    """Spans that begin and end like a name: with a capital, a digit, or a letter that has no capital."""
    namelike = np.fromiter((not (letter.islower() or letter.isspace()) for letter in text), bool, len(text))
    letters = np.fromiter((letter.isalnum() for letter in text), bool, len(text))
    return namelike[spans[:, 0]] & letters[spans[:, 0]] & letters[spans[:, 1] - 1]


class Task(Protocol):
    """A source of examples for one head."""

    name: str

    def draw(self, rng: Generator, share: float) -> Example | None:
        """A random example after this share of the run; None where the row has none (counted as skipped)."""
        ...


def cut_into_batches(examples: Sequence[Example], tokens: int) -> list[list[Example]]:
    """Examples of similar size together, each batch at most `tokens` words and entities with its padding.

    Words and entities are padded apart: sorting by their sum alone leaves 28% of a batch empty, this 15%.
    """
    batches: list[list[Example]] = []
    batch: list[Example] = []
    words = entities = 0
    for example in sorted(examples, key=lambda item: (item.entities // 12, item.words)):
        wider = max(words, example.words), max(entities, example.entities)
        if batch and sum(wider) * (len(batch) + 1) > tokens:
            batches.append(batch)
            batch, wider = [], (example.words, example.entities)
        words, entities = wider
        batch.append(example)
    return [*batches, batch] if batch else batches


class Batches(Protocol):
    """Endless batches of one task, whose state can be stored and restored."""

    def next(self, share: float = 0.0) -> list[Example]:
        """The next batch, after this share of the run."""
        ...

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as plain values."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        ...


class CountedTask(Protocol):
    """A source of numbered examples for one head."""

    name: str

    def __len__(self) -> int:
        """How many examples there are."""
        ...

    def at(self, number: int, rng: Generator, share: float) -> Example | None:
        """An example after this share of the run; None where it has none, or is left out this time."""
        ...


class PassSource:
    """`Batches` that show every example once in a pass over the data, in an order of each pass's own.

    Processes of one group walk the same order, each with its own examples. Where a source stands is a number
    of pools and of batches: nothing else is random that the seed does not fix.
    """

    def __init__(self, task: CountedTask, tokens: int, pool: int, seed: int, *, rank: int = 0, size: int = 1) -> None:
        """`pool`: examples that are cut into batches together, so that similar lengths meet."""
        self.task = task
        self._tokens = tokens
        self._seed = seed
        self._rank = rank
        self._size = size
        self._pool = pool
        self._number = -1
        self._used = 0
        self._share = 0.0
        self._batches: Iterator[list[Example]] = iter(())

    def next(self, share: float = 0.0) -> list[Example]:
        """The next batch, after this share of the run; ValueError where a whole pass has no example."""
        for _ in range(self._pools + 1):
            batch = next(self._batches, None)
            if batch is not None:
                self._used += 1
                return batch
            self._number, self._share, self._used = self._number + 1, share, 0
            self._batches = self._fill()
        raise ValueError(f"{self.task.name}: no row of the training data can be used")

    @property
    def _pools(self) -> int:
        """Pools of a pass."""
        own = -(-len(self.task) // self._size)
        return max(1, -(-own // self._pool))

    def _fill(self) -> Iterator[list[Example]]:
        turn, part = divmod(self._number, self._pools)
        order = np.random.default_rng([self._seed, turn]).permutation(len(self.task))[self._rank :: self._size]
        rng = np.random.default_rng([self._seed, turn, part, self._rank])
        numbers = order[part * self._pool : (part + 1) * self._pool].tolist()
        examples = [self.task.at(number, rng, self._share) for number in numbers]
        batches = cut_into_batches([item for item in examples if item is not None], self._tokens)
        rng.shuffle(batches)
        return iter(batches)

    def state(self) -> dict[str, Any]:
        """Where the source stands: its pool, and the batches taken from it."""
        return {"number": self._number, "share": self._share, "used": self._used}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._number, self._used = int(state["number"]), int(state["used"])
        self._share = float(state["share"])
        self._batches = self._fill() if self._number >= 0 else iter(())
        for _ in range(self._used):
            next(self._batches)


class BatchSource:
    """`Batches` from pools sorted by length."""

    def __init__(self, task: Task, tokens: int, pool: int, seed: int) -> None:
        self.task = task
        self._tokens = tokens
        self._pool = pool
        self._rng = np.random.default_rng(seed)
        self._used = 0
        self._share = 0.0
        self._start = dict(self._rng.bit_generator.state)
        self._batches: Iterator[list[Example]] = iter(())

    def next(self, share: float = 0.0) -> list[Example]:
        """The next batch, after this share of the run."""
        batch = next(self._batches, None)
        if batch is None:
            self._share = share
            self._refill()
            batch = next(self._batches)
        self._used += 1
        return batch

    def _refill(self) -> None:
        self._start = dict(self._rng.bit_generator.state)
        self._used = 0
        drawn = (self.task.draw(self._rng, self._share) for _ in range(100 * self._pool))
        found = [example for example, _ in zip((item for item in drawn if item), range(self._pool), strict=False)]
        if not found:
            message = f"{self.task.name}: no row of the training data can be used"
            raise ValueError(message)
        batches = cut_into_batches(found, self._tokens)
        self._rng.shuffle(batches)
        self._batches = iter(batches)

    def state(self) -> dict[str, Any]:
        """Where the source stands: the generator at the start of its pool, and the batches taken from it."""
        return {"start": self._start, "share": self._share, "used": self._used}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._rng.bit_generator.state = state["start"]
        self._share = float(state["share"])
        used = int(state["used"])
        if used:
            self._refill()
            for _ in range(used):
                next(self._batches)
        self._used = used
