"""Items of GOLD and of ANNOTATED side by side: places as rows, labels as columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from luke_batch.base.errors import ConfigError
from luke_batch.evaluation.items import Integers, Items, Strings
from luke_batch.evaluation.tasks import Task

_SHOWN = 20
"""Labels that a message lists."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The best label at each of n places where GOLD has one."""

    documents: Integers
    """(n,)"""
    right: NDArray[np.bool_]
    """(n,)"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the scores are counted from."""

    labels: tuple[str, ...]
    """The scored ones, sorted."""
    documents: Integers
    """(places,) row of GOLD."""
    gold: Any
    """scipy.sparse.csr_array (places, labels + 1) of 0 and 1; the last column is empty."""
    found: Any
    """The same of ANNOTATED."""
    accuracy: Accuracy | None
    """None where it means nothing."""
    confidences: NDArray[np.float64]
    """Scores of the found items that have one."""
    right: NDArray[np.bool_]
    """Whether GOLD has each of these."""


def compare(task: Task, gold: Items, found: Items, documents: int, wanted: Sequence[str]) -> Comparison:
    """Match items of one document with equal places.

    `gold` and `found` as from `Items.distinct`; `documents` is how many GOLD has. `wanted`: the labels to
    score, as `chosen_labels` reads them; none: those of GOLD, for links every title.
    """
    labels = chosen_labels(wanted, gold.labels, found.labels)
    if not labels:
        labels = sorted({*gold.labels, *(found.labels if task == "links" else ())})
    places = np.concatenate(
        [np.column_stack([items.documents, items.places]) for items in (gold, found)], dtype=np.int64
    )
    distinct, rows = np.unique(places, axis=0, return_inverse=True)
    gold_rows, found_rows = rows[: len(gold)], rows[len(gold) :]
    if task == "types":  # what is found elsewhere is the business of ner
        at_gold = np.isin(found_rows, gold_rows)
        found, found_rows = found.take(at_gold), found_rows[at_gold]
    # The last column keeps scikit-learn from reading a single label as a vector of classes.
    shape = (len(distinct), len(labels) + 1)
    gold_columns, found_columns = _columns(gold.labels, labels), _columns(found.labels, labels)
    scored = found_columns >= 0
    right = scored & np.isin(found_rows * shape[1] + found_columns, gold_rows * shape[1] + gold_columns)
    accuracy = None
    if task == "types" or (task == "relations" and _is_one_label_a_pair(gold, gold_rows, documents)):
        eligible = np.ones(len(found), np.bool_) if task == "types" else scored
        judged = np.unique(gold_rows[gold_columns >= 0])
        accuracy = Accuracy(distinct[judged, 0], _best_is_right(judged, found_rows[eligible], right[eligible]))
    told = scored & ~np.isnan(found.scores)
    return Comparison(
        labels=tuple(labels),
        documents=distinct[:, 0],
        gold=_matrix(gold_rows, gold_columns, shape),
        found=_matrix(found_rows, found_columns, shape),
        accuracy=accuracy,
        confidences=found.scores[told],
        right=right[told],
    )


def chosen_labels(wanted: Sequence[str], gold: Strings, found: Strings) -> list[str]:
    """The labels that `wanted` names, sorted: each entry is a label, or several with commas between them.

    Raises ConfigError for one that occurs in neither.
    """
    known = {*gold, *found}
    named = {label.strip() for entry in wanted for label in ([entry] if entry in known else entry.split(","))} - {""}
    strange = sorted(named - known)
    if strange:
        there = ", ".join(sorted(known)[:_SHOWN])
        raise ConfigError(f"--labels: {', '.join(strange)} occurs neither in GOLD nor in ANNOTATED, which have {there}")
    return sorted(named)


def _is_one_label_a_pair(gold: Items, rows: NDArray[np.intp], documents: int) -> bool:
    """Every document has relations, and no pair has two: then the best label of a pair can be judged."""
    return len(np.unique(rows)) == len(rows) and len(np.unique(gold.documents)) == documents


def _best_is_right(judged: NDArray[np.intp], rows: NDArray[np.intp], right: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(judged,) whether the first item found at each place, the one with the highest score, is right; false
    where none was found. `judged` is sorted.
    """
    best, first = np.unique(rows, return_index=True)
    found = np.isin(judged, best)
    out = np.zeros(len(judged), np.bool_)
    out[found] = right[first[np.searchsorted(best, judged[found])]]
    return out


def _columns(names: Strings, labels: Sequence[str]) -> Integers:
    """(n,) column of each label; -1 for one that is not scored."""
    place = {label: column for column, label in enumerate(labels)}
    return np.fromiter((place.get(name, -1) for name in names), np.int64, len(names))


def _matrix(rows: NDArray[np.intp], columns: Integers, shape: tuple[int, int]) -> Any:
    scored = columns >= 0
    ones = np.ones(int(scored.sum()), np.int64)
    return sparse.csr_array((ones, (rows[scored], columns[scored])), shape=shape)
