"""What the training data says of each head: its labels, whether several may hold, how often each occurs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from luke_batch.base.errors import InputError
from luke_batch.text.words import words
from luke_batch.training.corpus import NO_LABELS, NONE_LABELS, Row
from luke_batch.training.model import Feature, HeadSpec
from luke_batch.training.settings import FinetuneConfig, HeadName

_FEATURES: dict[HeadName, Feature] = {"ner": "span", "types": "entity", "relations": "pair"}
_WEIGHT_LIMIT = 10.0
"""A label of five examples must not outweigh all others."""
_MOST_WORDS = 16
_COVERED = 0.99
"""Share of the mentions that the longest span covers."""


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
    return HeadLabels(HeadSpec(_FEATURES[head], labels, multi, none, config.joint and head != "ner"), dict(counts))


def label_sets(head: HeadName, rows: Iterable[Row]) -> Iterator[set[str]]:
    """The labels of each span or pair that has any."""
    for row in rows:
        found: dict[tuple[int, int], set[str]] = {}
        if head == "relations":
            told = [((item.head, item.tail), item.label) for item in row.relations]
        else:
            told = [(item.span, item.label) for item in row.entities if item.label is not None]
        for place, label in told:
            if label not in NO_LABELS:
                found.setdefault(place, set()).add(label)
        yield from found.values()


def gives_unrelated(rows: Iterable[Row], config: FinetuneConfig) -> bool:
    """Whether only the pairs that stand in the data are examples."""
    if config.unrelated == "auto":
        return any(item.label in NO_LABELS for row in rows for item in row.relations)
    return config.unrelated == "given"


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
        spans = sorted({item.span for item in row.entities})
        count += len(row.entities) - len(spans)
        end = 0
        for start, last in spans:
            count += start < end
            end = max(end, last)
    return count
