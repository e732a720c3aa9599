"""Precision, recall and F1 with confidence intervals.

The scores are scikit-learn's. The intervals are those of the bootstrap's percentiles (Efron and Tibshirani
1993, chapter 13), resampling documents, since what stands in one document is not independent. They need only
the counts of each document, so a resample costs one weighted sum.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import bootstrap
from sklearn.metrics import precision_recall_fscore_support

from luke_batch.evaluation.comparison import Comparison
from luke_batch.evaluation.tasks import CONFIDENCE_LEVEL

Floats = NDArray[np.float64]
Interval = tuple[float, float]

_BATCH = 64
"""Resamples whose weights are in memory at once."""


@dataclass(frozen=True, slots=True)
class Score:
    """Fractions from 0 to 1; 0 where nothing was found, or nothing is to be found."""

    precision: float
    recall: float
    f1: float
    support: int
    """Items of GOLD."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one comparison."""

    micro: Score
    macro: Score
    """Means over the labels; the support is that of all."""
    labels: dict[str, Score]
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


def score(comparison: Comparison) -> Scores:
    """The scores of all labels."""
    supports = comparison.gold.sum(axis=0)[:-1]
    total = int(supports.sum())
    accuracy = comparison.accuracy
    return Scores(
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


def _score(precision: float, recall: float, f1: float, support: float) -> Score:
    return Score(float(precision), float(recall), float(f1), int(support))


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
