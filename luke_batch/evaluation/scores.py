"""Items of GOLD and of ANNOTATED side by side, and their precision, recall and F1 with confidence intervals.

Both are compared as matrices: places as rows, labels as columns. The scores are scikit-learn's. The intervals are those
of the bootstrap's percentiles (Efron and Tibshirani 1993, chapter 13), resampling documents, since what stands in one
document is not independent. They need only the counts of each document, so a resample costs one weighted sum.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import bootstrap
from sklearn.metrics import precision_recall_fscore_support

from luke_batch.base.errors import ConfigError
from luke_batch.evaluation.items import Integers, Items, Strings
from luke_batch.evaluation.tables import CONFIDENCE_LEVEL, Task

Floats = NDArray[np.float64]
Interval = tuple[float, float]

_SHOWN = 20
"""Labels that a message lists."""
_BATCH = 64
"""Resamples whose weights are in memory at once."""


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
    unscored: dict[str, int]
    """Labels of ANNOTATED that nobody named and GOLD lacks, with the items found under them: no score counts these."""


def compare(task: Task, gold: Items, found: Items, documents: int, wanted: Sequence[str]) -> Comparison:
    """Match items of one document with equal places.

    `gold` and `found` as from `Items.distinct`; `documents` is how many GOLD has. `wanted`: the labels to
    score, as `chosen_labels` reads them; none: those of GOLD, for links every title.
    """
    labels = chosen_labels(wanted, gold.labels, found.labels)
    named = bool(labels)
    if not named:
        labels = sorted({*gold.labels, *(found.labels if task == "links" else ())})
    places = np.concatenate(
        [np.column_stack([items.documents, items.places]) for items in (gold, found)], dtype=np.int64
    )
    distinct, rows = np.unique(places, axis=0, return_inverse=True)
    gold_rows, found_rows = rows[: len(gold)], rows[len(gold) :]
    if task == "types":  # what is found elsewhere is the business of ner
        at_gold = np.isin(found_rows, gold_rows)
        found, found_rows = found.take(at_gold), found_rows[at_gold]
    unscored = Counter(() if named else _set_aside(found.labels, labels))
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
    told = scored & np.isfinite(found.scores)
    return Comparison(
        labels=tuple(labels),
        documents=distinct[:, 0],
        gold=_matrix(gold_rows, gold_columns, shape),
        found=_matrix(found_rows, found_columns, shape),
        accuracy=accuracy,
        confidences=found.scores[told],
        right=right[told],
        unscored=dict(unscored.most_common()),
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


def _set_aside(found: Strings, labels: Sequence[str]) -> list[str]:
    """Those of the found labels that are not scored."""
    scored = set(labels)
    return [label for label in found.tolist() if label not in scored]


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


@dataclass(frozen=True, slots=True)
class LabelScore:
    """Fractions from 0 to 1; 0 where nothing was found, or nothing is to be found."""

    precision: float
    recall: float
    f1: float
    support: int
    """Items of GOLD."""


@dataclass(frozen=True, slots=True)
class TaskScores:
    """The scores of one comparison."""

    micro: LabelScore
    macro: LabelScore
    """Means over the labels; the support is that of all."""
    labels: dict[str, LabelScore]
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Intervals:
    """The middle 95% over the resamples."""

    micro: dict[str, Interval]
    """precision, recall and f1."""
    macro: dict[str, Interval]
    """Means over the labels that a resample has."""
    labels: dict[str, Interval]
    """F1, over the resamples that have the label."""
    accuracy: Interval | None


def score(comparison: Comparison) -> TaskScores:
    """The scores of all labels."""
    supports = comparison.gold.sum(axis=0)[:-1]
    total = int(supports.sum())
    accuracy = comparison.accuracy
    return TaskScores(
        micro=_score(*_averaged(comparison, "micro"), total),
        macro=_score(*_averaged(comparison, "macro"), total),
        labels={
            label: _score(*values)
            for label, *values in zip(comparison.labels, *_averaged(comparison, None), supports, strict=True)
        },
        accuracy=None if accuracy is None or not len(accuracy.right) else float(accuracy.right.mean()),
    )


def _averaged(comparison: Comparison, average: str | None) -> tuple[Any, Any, Any]:
    """Precision, recall and F1: numbers, or without an average (labels,) of each."""
    precision, recall, f1, _ = precision_recall_fscore_support(
        comparison.gold,
        comparison.found,
        labels=range(len(comparison.labels)),
        average=average,
        zero_division=0,  # pyright: ignore[reportArgumentType]: its types come from a docstring
    )
    return precision, recall, f1


def _score(precision: float, recall: float, f1: float, support: float) -> LabelScore:
    return LabelScore(float(precision), float(recall), float(f1), int(support))


def intervals(comparison: Comparison, documents: int, resamples: int, seed: int) -> Intervals | None:
    """Confidence intervals over `documents` documents; None where there are fewer than two, or no resample.

    The same seed gives the same intervals.
    """
    if documents < 2 or not resamples:
        return None
    counts = _counts(comparison, documents).T.tocsr()

    def sums(drawn: NDArray[np.intp], axis: int) -> Floats:
        """(counts, …) sums over documents `drawn` (…, documents)."""
        assert axis in (-1, drawn.ndim - 1)
        samples = drawn.reshape(-1, documents)
        shifted = samples + documents * np.arange(len(samples))[:, None]
        weights = np.bincount(shifted.ravel(), minlength=samples.size).reshape(samples.shape)
        return cast(Floats, counts @ weights.T).reshape(-1, *drawn.shape[:-1])

    result = bootstrap(
        (np.arange(documents),),
        sums,
        n_resamples=resamples,
        batch=_BATCH,
        vectorized=True,
        axis=-1,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return _intervals(comparison, np.asarray(result.bootstrap_distribution, np.float64))


def _counts(comparison: Comparison, documents: int) -> Any:
    """csr_array (documents, 3 * labels + 2): of each label the items that are right, found, and in GOLD; then
    the places where the best label is right, and all such places.
    """
    labels = len(comparison.labels)
    gold, found = comparison.gold[:, :labels], comparison.found[:, :labels]
    places = np.arange(len(comparison.documents))
    of_document = sparse.csr_array(
        (np.ones(len(places)), (comparison.documents, places)), shape=(documents, len(places))
    )
    accuracy = np.zeros((documents, 2))
    if comparison.accuracy is not None:
        rows, right = comparison.accuracy.documents, comparison.accuracy.right
        accuracy[:, 0] = np.bincount(rows, right, minlength=documents)
        accuracy[:, 1] = np.bincount(rows, minlength=documents)
    sums = of_document @ sparse.hstack([gold.multiply(found), found, gold], format="csr")
    return sparse.hstack([sums, sparse.csr_array(accuracy)], format="csr")


def _intervals(comparison: Comparison, sums: Floats) -> Intervals:
    """`sums` are those of `_counts`, (counts, resamples)."""
    right, found, gold = sums[:-2].reshape(3, len(comparison.labels), -1)
    micro = _figures(right.sum(axis=0), found.sum(axis=0), gold.sum(axis=0))
    each = _figures(right, found, gold)
    present = (found + gold) > 0
    macro = [np.where(present, values, 0).sum(axis=0) / np.maximum(present.sum(axis=0), 1) for values in each]
    names = ("precision", "recall", "f1")
    accuracy = None
    if comparison.accuracy is not None and sums[-1].any():
        accuracy = _interval(sums[-2][sums[-1] > 0] / sums[-1][sums[-1] > 0])
    return Intervals(
        micro={name: _interval(values) for name, values in zip(names, micro, strict=True)},
        macro={name: _interval(values) for name, values in zip(names, macro, strict=True)},
        labels={
            label: _interval(values[there]) if there.any() else (0.0, 0.0)
            for label, values, there in zip(comparison.labels, each[2], present, strict=True)
        },
        accuracy=accuracy,
    )


def _figures(right: Floats, found: Floats, gold: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1; 0 for 0 of 0."""
    return (right / np.maximum(found, 1), right / np.maximum(gold, 1), 2 * right / np.maximum(found + gold, 1))


def _interval(values: Floats) -> Interval:
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
