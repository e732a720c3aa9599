"""Examples, how they form batches, and in which order they are shown.

What stands here needs neither data files nor the text of the examples: only windows and their targets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from luke_batch.model.inputs.windows import Window
from luke_batch.training.encoder import EncoderInput

BoolArray = NDArray[np.bool_]

IGNORED = -100
"""The target of an entity that is padding."""


Targets = tuple[NDArray[Any], BoolArray | None]
"""What a head should say of a window's entities, and which of it is known, as an `Example` has them."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One window with what its entities should be."""

    window: Window
    targets: NDArray[Any]
    """(entities,) label numbers, or 0 and 1 for a multi-label head: (labels,) of a window's one place, (entities,
    labels) or (entities, entities, labels) of all in a joint one.
    """
    known: BoolArray | None = None
    """Shaped alike: those of which the annotation tells whether they hold; None: all."""
    heads: Mapping[str, Targets] = field(default_factory=lambda: dict[str, Targets]())
    """Of a window that several heads read: what each should say, instead of the above."""

    @property
    def words(self) -> int:
        """How many tokens its window has."""
        return len(self.window.token_ids)

    @property
    def entities(self) -> int:
        """How many entities its window has."""
        return len(self.window.entity_ids)


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


def collate(examples: Sequence[Example], pad_id: int) -> EncoderInput:
    """Padded inputs."""
    windows = [example.window for example in examples]
    return EncoderInput(
        _padded([window.token_ids for window in windows], pad_id),
        torch.tensor([example.words for example in examples]),
        _padded([window.entity_ids for window in windows], 0),
        _padded([window.entity_spans for window in windows], 0),
    )


def collate_targets(told: Sequence[Targets], multi_label: bool) -> tuple[Tensor, Tensor | None]:
    """Padded targets, and for a multi-label head which labels are known."""
    if not multi_label:
        return _boxed([found.astype(np.int64) for found, _ in told], IGNORED), None
    targets = _boxed([found for found, _ in told], 0)
    return targets, _boxed([np.ones(found.shape, bool) if known is None else known for found, known in told], 0)


def _padded(rows: Sequence[NDArray[Any]], value: int) -> Tensor:
    """(n, longest, …) int64 of n arrays that differ in their length."""
    return pad_sequence([torch.from_numpy(row.astype(np.int64)) for row in rows], True, value)


def _boxed(parts: Sequence[NDArray[Any]], rest: int) -> Tensor:
    """(n, …) of n arrays, each in the first corner of a box that holds the largest; what is left is `rest`."""
    boxes = np.full((len(parts), *np.max([part.shape for part in parts], axis=0)), rest, parts[0].dtype)
    for box, part in zip(boxes, parts, strict=True):
        box[tuple(map(slice, part.shape))] = part
    return torch.from_numpy(boxes)


class Batches(ABC):
    """Endless batches of one head. Where they stand is a number of pools and of batches taken from the last one:
    nothing else is random that the seed does not fix.
    """

    def __init__(self, name: str, most_pools: int = 1) -> None:
        """`most_pools`: after so many without any batch there will be none."""
        self.name = name
        self._most_pools = most_pools
        self._number = -1
        self._used = 0
        self._share = 0.0
        self._batches: Iterator[list[Example]] = iter(())

    @abstractmethod
    def pool(self, number: int, share: float) -> list[list[Example]]:
        """The batches of a pool, from 0 on, begun after this share of the run; the same at every call."""

    def next(self, share: float = 0.0) -> list[Example]:
        """The next batch, after this share of the run; ValueError where a whole pass has no example."""
        for _ in range(self._most_pools + 1):
            batch = next(self._batches, None)
            if batch is not None:
                self._used += 1
                return batch
            self._number, self._share, self._used = self._number + 1, share, 0
            self._batches = iter(self.pool(self._number, share))
        raise ValueError(f"{self.name}: no row of the training data can be used")

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as plain values."""
        return {"number": self._number, "share": self._share, "used": self._used}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self._number, self._used = int(state["number"]), int(state["used"])
        self._share = float(state["share"])
        batches = self.pool(self._number, self._share) if self._number >= 0 else []
        self._batches = iter(batches[self._used :])


class NumberedExamples(Protocol):
    """The examples of one head."""

    name: str

    def __len__(self) -> int:
        """How many there are."""
        ...

    def at(self, number: int, rng: Generator, share: float) -> Example | None:
        """An example after this share of the run; None where it has none, or is left out this time."""
        ...


class PooledBatches(Batches):
    """Every example once in a pass over the data, in an order of each pass's own; or, weighted, as drawn.

    Processes of one group walk the same order, each with its own examples.
    """

    def __init__(
        self,
        examples: NumberedExamples,
        tokens: int,
        size_of_pool: int,
        seed: int,
        *,
        rank: int = 0,
        size: int = 1,
        weights: Sequence[float] | None = None,
    ) -> None:
        """`size_of_pool`: examples that are cut into batches together, so that similar lengths meet. `weights`:
        how often each is drawn against the others, instead of passes.
        """
        own = -(-len(examples) // size)
        super().__init__(examples.name, max(1, -(-own // size_of_pool)))
        self._examples = examples
        self._tokens = tokens
        self._size_of_pool = size_of_pool
        self._seed = seed
        self._rank = rank
        self._size = size
        self._chances = None if weights is None else np.array(weights) / np.sum(weights)

    def pool(self, number: int, share: float) -> list[list[Example]]:
        """The next part of a pass, or as many examples drawn."""
        turn, part = divmod(number, self._most_pools)
        rng = np.random.default_rng([self._seed, turn, part, self._rank])
        if self._chances is None:
            order = np.random.default_rng([self._seed, turn]).permutation(len(self._examples))
            order = order[self._rank :: self._size]
            chosen = order[part * self._size_of_pool : (part + 1) * self._size_of_pool]
        else:
            chosen = rng.choice(len(self._examples), self._size_of_pool, p=self._chances)
        found = [self._examples.at(place, rng, share) for place in chosen.tolist()]
        batches = cut_into_batches([item for item in found if item is not None], self._tokens)
        rng.shuffle(batches)
        return batches
