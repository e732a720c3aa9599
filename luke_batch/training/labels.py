"""What the training data says of each head: its labels, whether several may hold, how often each occurs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from luke_batch.base.errors import InputError
from luke_batch.text.words import words
from luke_batch.training.data import Row
from luke_batch.training.model import Feature, HeadSpec
from luke_batch.training.pairs import Pair, pairs_of
from luke_batch.training.settings import FinetuneConfig, HeadName

FEATURES: dict[HeadName, Feature] = {"ner": "span", "types": "entity", "relations": "pair"}
NONE_LABELS = {"ner": "NIL", "relations": "no_relation"}
"""What a model calls "nothing", as published checkpoints do."""
NOTHING = frozenset(NONE_LABELS.values())
"""Labels of the data that say the same."""

_WEIGHT_LIMIT = 10.0
"""A label of five examples must not outweigh all others."""
_MOST_WORDS = 16
_COVERED = 0.99
"""Share of the mentions that the longest span covers."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class HeadLabels:
    """The labels of one head and their occurrences in TRAIN."""

    spec: HeadSpec
    counts: dict[str, int]

    def weights(self) -> Tensor:
        """(labels,) balanced class weights: the mean over all labelled examples is 1, "nothing" has 1."""
        named = [label for label in self.spec.labels if label != self.spec.none_label]
        mean = sum(self.counts[label] for label in named) / len(named)
        weights = {label: min(mean / self.counts[label], _WEIGHT_LIMIT) for label in named}
        return torch.tensor([weights.get(label, 1.0) for label in self.spec.labels])


def read_labels(head: HeadName, rows: Sequence[Row], config: FinetuneConfig) -> HeadLabels:
    """The label set of a head; InputError where no row has an example of it."""
    sets = list(label_sets(head, rows))
    counts = Counter(label for labels in sets for label in labels)
    if not counts:
        what = "relation" if head == "relations" else "entity with a label"
        raise InputError(f"TRAIN has no example of the head {head}: no {what}; leave --head {head} out")
    several = any(len(labels) > 1 for labels in sets)
    multi = head != "ner" and {"auto": several, "yes": True, "no": False}[config.multi_label]
    none = None if multi else NONE_LABELS.get(head)
    labels = (*([none] if none else []), *sorted(counts))
    return HeadLabels(HeadSpec(FEATURES[head], labels, multi, none), dict(counts))


def label_sets(head: HeadName, rows: Iterable[Row]) -> Iterable[set[str]]:
    """The labels of each span or pair that has any."""
    for row in rows:
        found: dict[Span, set[str]] = {}
        if head == "relations":
            for item in row.relations:
                if item.label not in NOTHING:
                    found.setdefault((item.head, item.tail), set()).add(item.label)
        else:
            for entity in row.entities:
                if entity.label is not None and entity.label not in NOTHING:
                    found.setdefault((entity.start, entity.end), set()).add(entity.label)
        yield from found.values()


def without_nothing(row: Row) -> Row:
    """The row without entities that are labelled as none: they are spans like any other."""
    if not any(entity.label in NOTHING for entity in row.entities):
        return row
    kept = [place for place, entity in enumerate(row.entities) if entity.label not in NOTHING]
    places = {old: new for new, old in enumerate(kept)}
    relations = tuple(
        replace(item, head=places[item.head], tail=places[item.tail])
        for item in row.relations
        if item.head in places and item.tail in places
    )
    return replace(row, entities=tuple(row.entities[place] for place in kept), relations=relations)


def gives_unrelated(rows: Iterable[Row], config: FinetuneConfig) -> bool:
    """Whether only the pairs that stand in the data are examples."""
    if config.unrelated == "auto":
        return any(item.label in NOTHING for row in rows for item in row.relations)
    return config.unrelated == "given"


def relation_pairs(rows: Iterable[Row], spec: HeadSpec | None, *, given: bool) -> list[Pair]:
    """The ordered pairs of all rows, with those of their labels that the head has; None: with all.

    given: only those that stand in the data. Where a pair may have one label, it is the first by name.
    """
    pairs: list[Pair] = []
    for row in rows:
        named = {(item.head, item.tail) for item in row.relations}
        for pair in pairs_of(row):
            if given and (pair.head, pair.tail) not in named:
                continue
            labels = sorted(pair.labels - NOTHING)
            if spec is not None:
                labels = [label for label in labels if label in spec.labels]
                labels = labels if spec.multi_label else labels[:1]
            pairs.append(replace(pair, labels=frozenset(labels)))
    return pairs


def longest_span(rows: Iterable[Row]) -> int:
    """In words: enough for 99% of the mentions, 16 at most."""
    lengths: list[int] = []
    for row in rows:
        found = words(row.text, row.lang)
        for entity in row.entities:
            inside = (found[:, 0] < entity.end) & (found[:, 1] > entity.start)
            lengths.append(int(inside.sum()))
    if not lengths:
        return 1
    return int(min(max(np.quantile(lengths, _COVERED, method="higher"), 1), _MOST_WORDS))


def overlaps(rows: Iterable[Row]) -> int:
    """How many mentions overlap one before them in their row, or repeat its span."""
    count = 0
    for row in rows:
        end = 0
        for start, last in sorted({(item.start, item.end) for item in row.entities}):
            count += start < end
            end = max(end, last)
        count += len(row.entities) - len({(item.start, item.end) for item in row.entities})
    return count
