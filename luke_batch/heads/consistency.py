"""Relations that make sense together: of all sets that the checkpoint's rules allow, the one of which most is expected
to be right.

A relation that no rule allows by itself is left out: between mentions of one surface, or of labels that cannot have it.
What is left is joined to *statements*: one relation, or two that mean the same (`spouse` both ways, `child` and
`parent`), read twice, so that its probability is that of the mean of their log odds. Statements of one sentence exclude
one another where a relation has one tail or one head, where it cannot hold both ways, or where a pair has one label.
Of a set without such a conflict the probabilities sum to the number of relations that are expected to be right; the
largest sum is searched for by branch and bound, as it is a weighted independent set of a few nodes.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.document.state import Document
from luke_batch.heads.head import Labels
from luke_batch.model.files.constraints import Constraints

_MOST_STEPS = 20_000
"""Of the search for the statements of one sentence that hang together. It begins with the most probable ones, so what
it has at the end is no worse than they are, and depends on nothing else."""

Found = tuple[int, str, float]
"""Which pair, its label and its score."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Relations (pair, label) that are written all or not at all."""

    items: tuple[tuple[int, int], ...]
    score: float

    @property
    def gain(self) -> float:
        """How many right relations are expected of it."""
        return self.score * len(self.items)


class Consistency:
    """The rules of a checkpoint over its labels."""

    def __init__(self, labels: Labels, constraints: Constraints) -> None:
        self._labels = labels
        self._types = frozenset(constraints.types)
        self._rules = [constraints.rule(name) for name in labels.names]
        numbers = {name: number for number, name in enumerate(labels.names)}
        self._inverse = [None if rule.inverse is None else numbers[rule.inverse] for rule in self._rules]
        self._opposites: list[set[tuple[int, int]]] = [set() for _ in labels.names]
        for label, inverse in enumerate(self._inverse):
            if inverse is not None and inverse != label:
                for one in (label, inverse):
                    self._opposites[one].add((min(label, inverse), max(label, inverse)))
        self._excluded: list[set[int]] = [set() for _ in labels.names]
        for label, rule in enumerate(self._rules):
            for other in (numbers[name] for name in rule.excludes):
                self._excluded[label].add(other)
                self._excluded[other].add(label)
        self._inside = [numbers[name] for name in constraints.inside]
        self._allowed: dict[tuple[str | None, str | None], NDArray[np.bool_]] = {}

    def possible(self, document: Document, pairs: IntArray) -> NDArray[np.bool_]:
        """(m, labels) which relations each of the (m, 2) pairs of mentions may have, by itself."""
        found = np.zeros((len(pairs), len(self._rules)), bool)
        kinds, surfaces = document.mentions.labels, _surfaces(document, pairs)
        for number, (head, tail) in enumerate(pairs.tolist()):
            if surfaces[head] != surfaces[tail]:
                found[number] = self._of_labels(kinds[head], kinds[tail])
        return found

    def decode(self, document: Document, pairs: IntArray, logits: Sequence[FloatArray]) -> tuple[list[Found], int]:
        """The relations of (m, 2) pairs with (labels,) logits each, by pair, the best of a pair first; and how many
        were left out that the pairs by themselves would have.
        """
        if not len(pairs):
            return [], 0
        values = np.stack(logits)
        scores = self._labels.probabilities(values)
        likely = _likely(self._labels, values, scores)
        possible = self.possible(document, pairs)
        statements = list(self._statements(pairs, scores, likely & possible, possible))
        conflicts = self._conflicts(document, pairs, statements, self._nested(document, pairs, scores))
        kept = [statements[number] for number in best_set([item.gain for item in statements], conflicts)]
        written = {item: statement.score for statement in kept for item in statement.items}
        best = likely if self._labels.multi else likely & (values == values.max(axis=1, keepdims=True))
        lost = sum((pair, label) not in written for pair, label in np.argwhere(best).tolist())
        order = sorted(written.items(), key=lambda entry: (entry[0][0], -entry[1], entry[0][1]))
        return [(pair, self._labels.names[label], score) for (pair, label), score in order], lost

    def _of_labels(self, head: str | None, tail: str | None) -> NDArray[np.bool_]:
        key = (head, tail)
        if key not in self._allowed:
            self._allowed[key] = np.array(
                [
                    (head not in self._types or rule.heads is None or head in rule.heads)
                    and (tail not in self._types or rule.tails is None or tail in rule.tails)
                    for rule in self._rules
                ],
                bool,
            )
        return self._allowed[key]

    def _other_way(self, label: int) -> int | None:
        """The label that says the same of the pair the other way round."""
        if self._rules[label].symmetric:
            return label
        inverse = self._inverse[label]
        return inverse if inverse is not None and self._inverse[inverse] == label else None

    def _statements(
        self, pairs: IntArray, scores: FloatArray, likely: NDArray[np.bool_], possible: NDArray[np.bool_]
    ) -> Iterator[Statement]:
        """Those that are probable enough to be written."""
        places = {(head, tail): number for number, (head, tail) in enumerate(pairs.tolist())}
        done: set[tuple[int, int]] = set()
        for pair, label in np.argwhere(likely).tolist():
            if (pair, label) in done:
                continue
            other, back = self._other_way(label), places.get((int(pairs[pair, 1]), int(pairs[pair, 0])))
            if other is None or back is None or not possible[back, other]:
                yield Statement(((pair, label),), float(scores[pair, label]))
                continue
            done |= {(pair, label), (back, other)}
            both = np.array([scores[pair, label], scores[back, other]], np.float64).clip(1e-9, 1 - 1e-9)
            score = float(1 / (1 + np.exp(-np.log(both / (1 - both)).mean())))
            if likely[back, other] or score >= self._labels.threshold:
                yield Statement(((pair, label), (back, other)), score)

    def _nested(self, document: Document, pairs: IntArray, scores: FloatArray) -> set[tuple[object, object]]:
        """Surfaces of which one lies in the other, as far as the pair by itself tells, in both orders."""
        surfaces = _surfaces(document, pairs)
        near = (scores[:, self._inside] >= self._labels.threshold).any(axis=1)
        found: set[tuple[object, object]] = {(surfaces[head], surfaces[tail]) for head, tail in pairs[near].tolist()}
        return found | {(tail, head) for head, tail in found}

    def _conflicts(
        self, document: Document, pairs: IntArray, statements: Sequence[Statement], nested: set[tuple[object, object]]
    ) -> list[set[int]]:
        """Of each statement the numbers of those that exclude it."""
        surfaces = _surfaces(document, pairs)
        sentences = document.sentence_of(document.mentions.spans[pairs.reshape(-1)]).reshape(-1, 2).min(axis=1).tolist()
        ends = pairs.tolist()
        # A slot holds one value: of all statements with one key, those of other values exclude one another.
        slots: dict[tuple[object, ...], list[tuple[int, object]]] = defaultdict(list)
        for number, statement in enumerate(statements):
            for pair, label in statement.items:
                if not self._labels.multi:
                    slots["label", pair].append((number, label))
                head, tail = (surfaces[end] for end in ends[pair])
                for key, value in self._slots(label, head, tail):
                    slots[(*key, sentences[pair])].append((number, value))
        found: list[set[int]] = [set() for _ in statements]
        nothing = set[tuple[object, object]]()
        for key, slot in slots.items():
            apart = nested if key[0] == "nested tail" else nothing
            for number, value in slot:
                found[number].update(
                    other for other, rival in slot if rival != value and other != number and (value, rival) not in apart
                )
        return found

    def _slots(self, label: int, head: str, tail: str) -> Iterator[tuple[tuple[object, ...], object]]:
        """What a relation between two surfaces takes, and the value that it takes it with."""
        rule = self._rules[label]
        if rule.one_tail:
            yield ("nested tail" if rule.one_tail == "nested" else "tail", label, head), tail
        if rule.one_head:
            yield ("head", label, tail), head
        if rule.symmetric is False:
            yield ("way", label, *sorted((head, tail))), (head, tail)
        for low, high in self._opposites[label]:  # father and child: of one pair not both
            way = (head, tail) if label == low else (tail, head)
            yield ("inverse", low, high, *sorted(way)), way
        for other in self._excluded[label] - {label}:
            yield ("pair", *sorted((label, other)), *sorted((head, tail))), label


def _likely(labels: Labels, logits: FloatArray, scores: FloatArray) -> NDArray[np.bool_]:
    """(m, labels) what is likelier than nothing: at or above the threshold, or better than "no relation"."""
    found = scores >= labels.threshold if labels.multi else logits > logits[:, [labels.none]]
    if labels.none >= 0:
        found[:, labels.none] = False
    return found


def _surfaces(document: Document, pairs: IntArray) -> dict[int, str]:
    """Of every mention of the pairs, letters of both cases as one."""
    spans = document.mentions.spans
    return {place: document.text[spans[place, 0] : spans[place, 1]].casefold() for place in np.unique(pairs).tolist()}


def best_set(gains: Sequence[float], conflicts: Sequence[set[int]]) -> list[int]:
    """The numbers, sorted, of the set without conflicts whose gains sum highest; of equal ones that with the better
    and earlier numbers. Gains are positive; `conflicts` is symmetric.
    """
    order = sorted(range(len(gains)), key=lambda number: (-gains[number], number))
    left, chosen = set(order), list[int]()
    for number in order:
        if number in left:
            group = _connected(number, conflicts)
            left -= group
            chosen += _best_of_group([member for member in order if member in group], gains, conflicts)
    return sorted(chosen)


def _connected(first: int, conflicts: Sequence[set[int]]) -> set[int]:
    found, waiting = {first}, [first]
    while waiting:
        fresh = conflicts[waiting.pop()] - found
        found |= fresh
        waiting += fresh
    return found


def _best_of_group(order: list[int], gains: Sequence[float], conflicts: Sequence[set[int]]) -> list[int]:
    """Depth first, each taken before it is left out, so that the first set is the greedy one."""
    best: list[int] = []
    best_gain, steps = 0.0, 0
    waiting: list[tuple[list[int], list[int], float]] = [([], order, 0.0)]
    while waiting and steps < _MOST_STEPS:
        taken, open_, gain = waiting.pop()
        steps += 1
        if gain > best_gain:
            best, best_gain = taken, gain
        if not open_ or gain + sum(gains[number] for number in open_) <= best_gain:
            continue
        first, others = open_[0], open_[1:]
        free = [number for number in others if number not in conflicts[first]]
        if len(free) < len(others):
            waiting.append((taken, others, gain))
        waiting.append(([*taken, first], free, gain + gains[first]))
    return best
