"""How far scores are probabilities, and the temperature that brings them nearer.

A score is calibrated where, of all items with a score near p, a share of p is right. One temperature divides all logits
of a head (Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2); it does not change which label is
best. Guo et al. minimise the negative log-likelihood of the true label; what is written out here are chosen labels, so
it is that of the chosen label being right or wrong.

A head whose labels do not exclude one another gets an offset for each label beside the temperature (Platt 1999, with
one slope): the probability of a label is sigmoid((logit + offset) / temperature). Labels are rare to different degrees,
which one temperature cannot tell; probabilities that can be compared across labels also let one threshold serve all of
them (Lipton et al. 2014, Optimal Thresholding of Classifiers to Maximize F1 Measure).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.errors import MissingDependencyError

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Outcome = Literal["fitted", "at bound", "no item", "all right", "all wrong"]

BOUNDS = (0.05, 20.0)
"""Least and largest temperature."""

_GRID = 25
"""Temperatures tried before the search: the loss of a softmax head may have more than one minimum."""
_CERTAIN = 700.0
"""Largest log odds: its exponential is still a float64."""
_SHRINKAGE = 0.5
"""The prior on how far a label's offset lies from that of all labels, in nats squared: a label that is seen once or
twice keeps the common one."""
_SHARE = 0.9
"""Of the right labels, those whose logits are reached; what lies below is so surely wrong that fitting it would bend
the slope where scores are written."""
_PACKAGES = {"scipy": "scipy", "sklearn": "scikit-learn"}


def check_libraries() -> None:
    """Raise MissingDependencyError, with the pip command, unless all are installed."""
    missing = [package for module, package in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise MissingDependencyError(
            f"evaluation and calibration need {' and '.join(missing)}: pip install {' '.join(missing)}"
        )


@dataclass(frozen=True, slots=True)
class Temperature:
    """What divides the logits of a head."""

    value: float
    outcome: Outcome
    """fitted; at bound: the best is one of BOUNDS or beyond; otherwise why nothing can be fitted, and the value is 1.
    """


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature from one half of the documents, and what it does on the other."""

    temperature: Temperature
    before: float
    """Expected calibration error of the reported items at temperature 1."""
    after: float
    fitted_items: int
    reported_items: int


def expected_calibration_error(scores: NDArray[np.floating], right: Booleans, bins: int = 15) -> float:
    """Mean distance between score and share of right items, over bins of equal mass.

    Adaptive bins after Nguyen and O'Connor 2015 (Posterior calibration and exploratory analysis for natural
    language processing models, section 3): items in order of their scores, cut into `bins` parts whose sizes
    differ by at most one; fewer items than bins make one bin each. The distance is the absolute one of Guo et
    al. 2017. Items of one score share the mean of their outcomes, so that the order in which they come does
    not matter where a cut falls between them.

    Args:
        scores: (n,) from 0 to 1, of what was written out.
        right: (n,) whether it was right.
        bins: 1 or more.

    Returns:
        From 0 to 1; 0 without items.
    """
    if not len(scores):
        return 0.0
    values, group, sizes = np.unique(scores.astype(np.float64), return_inverse=True, return_counts=True)
    shares = np.bincount(group, right) / sizes
    ordered_scores, ordered_shares = np.repeat(values, sizes), np.repeat(shares, sizes)
    parts = zip(
        np.array_split(ordered_scores, min(bins, len(scores))),
        np.array_split(ordered_shares, min(bins, len(scores))),
        strict=True,
    )
    return float(sum(abs(np.sum(score - share)) for score, share in parts) / len(scores))


def log_odds(logits: NDArray[np.floating], chosen: NDArray[np.integer], temperature: float, *, multi: bool) -> Floats:
    """(n,) log odds of the chosen labels: their probabilities are `scipy.special.expit` of these.

    `logits` (n, labels) are raw, `chosen` (n,) are columns of them. multi: a sigmoid for each label; else a
    softmax over all. Raises ValueError for a chosen logit that is not finite, or any that is NaN or +inf.
    """
    from scipy.special import logsumexp

    scaled = logits.astype(np.float64) / temperature
    rows = np.arange(len(scaled))
    own = scaled[rows, chosen]
    if not np.isfinite(own).all() or np.isnan(scaled).any() or np.isposinf(scaled).any():
        raise ValueError("logits must be finite; only labels that were not chosen may have -inf")
    if not multi:
        scaled[rows, chosen] = -np.inf
        with np.errstate(divide="ignore"):  # a label without rivals is certain
            own = own - logsumexp(scaled, axis=1)
    return np.clip(own, -_CERTAIN, _CERTAIN)


def fit_temperature(
    logits: NDArray[np.floating], chosen: NDArray[np.integer], right: Booleans, *, multi: bool
) -> Temperature:
    """The temperature under which it is likeliest that the right items are right and the others wrong.

    Arguments as for `log_odds`; right (n,). A search inside BOUNDS, over the logarithm of the temperature.
    Raises MissingDependencyError without SciPy.
    """
    check_libraries()
    from scipy.optimize import minimize_scalar
    from scipy.special import log_expit

    if not len(right):
        return Temperature(1.0, "no item")
    if right.all() or not right.any():
        return Temperature(1.0, "all right" if right.all() else "all wrong")
    signs = np.where(right, 1.0, -1.0)

    def loss(log_temperature: float) -> float:
        odds = log_odds(logits, chosen, float(np.exp(log_temperature)), multi=multi)
        return -float(np.mean(log_expit(signs * odds)))

    grid = np.linspace(np.log(BOUNDS[0]), np.log(BOUNDS[1]), _GRID)
    place = int(np.argmin([loss(value) for value in grid]))
    low, high = grid[max(place - 1, 0)], grid[min(place + 1, _GRID - 1)]
    found: Any = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    best = float(found.x)
    is_inside = grid[0] + 1e-2 < best < grid[-1] - 1e-2
    return Temperature(float(np.exp(best)), "fitted" if is_inside else "at bound")


def calibrate(
    logits: NDArray[np.floating], chosen: NDArray[np.integer], right: Booleans, documents: Sequence[str], *, multi: bool
) -> Calibration:
    """Fit a temperature on one half of the documents, and report it on the other.

    Arguments as for `fit_temperature`; `documents` (n,) are the ids of the documents that the items are from.
    An item is something that was written out; decoding must not depend on the temperature.
    """
    fits = in_fitting_half(documents)
    temperature = fit_temperature(logits[fits], chosen[fits], right[fits], multi=multi)
    from scipy.special import expit

    def error(value: float) -> float:
        odds = log_odds(logits[~fits], chosen[~fits], value, multi=multi)
        return expected_calibration_error(cast(Floats, expit(odds)), right[~fits])

    return Calibration(
        temperature=temperature,
        before=error(1.0),
        after=error(temperature.value),
        fitted_items=int(fits.sum()),
        reported_items=int((~fits).sum()),
    )


def in_fitting_half(documents: Sequence[str]) -> Booleans:
    """(n,) whether each document is in the half that is fitted on: by the hash of its id alone, whatever
    other documents there are.
    """
    digests = (hashlib.blake2b(document.encode(), digest_size=1).digest() for document in documents)
    return np.fromiter((digest[0] % 2 == 0 for digest in digests), np.bool_, len(documents))


@dataclass(frozen=True, slots=True, eq=False)
class LabelScaling:
    """(logits + offsets) / temperature are the log odds."""

    temperature: float
    offsets: NDArray[np.float64]
    """(labels,)"""


def fit_label_scaling(
    logits: NDArray[np.floating], right: Booleans, documents: Sequence[str] | None = None
) -> LabelScaling:
    """The scaling under which the right labels are likeliest; none (1 and zeros) where all or none are right.

    Args:
        logits: (n, labels) raw.
        right: (n, labels).
        documents: (n,) ids. Where they are told, what is right of one label in one document counts as one in how labels
            differ: a list of ten siblings has ninety pairs, and would tell how likely siblings are everywhere.

    Raises MissingDependencyError without SciPy.
    """
    check_libraries()
    from scipy.optimize import minimize
    from scipy.special import expit, log_expit

    labels = logits.shape[1]
    if not right.any() or right.all():
        return LabelScaling(1.0, np.zeros(labels))
    least = np.quantile(logits[right], 1 - _SHARE)
    rows, columns = np.nonzero(logits >= least)
    values = logits[rows, columns].astype(np.float64)
    signs = np.where(right[rows, columns], 1.0, -1.0)
    equal = np.ones(len(signs))

    def loss(parameters: NDArray[np.float64], weights: Floats) -> tuple[float, NDArray[np.float64]]:
        slope, common, own = np.exp(parameters[0]), parameters[1], parameters[2:]
        odds = slope * values + common + own[columns]
        pull = -signs * expit(-signs * odds) * weights
        gradient = np.concatenate(
            [[slope * pull @ values], [pull.sum()], np.bincount(columns, pull, labels) + own / _SHRINKAGE]
        )
        return float(-(weights * log_expit(signs * odds)).sum() + (own**2).sum() / (2 * _SHRINKAGE)), gradient

    start = np.zeros(labels + 2)
    bounds = [(-np.log(BOUNDS[1]), -np.log(BOUNDS[0])), *[(None, None)] * (labels + 1)]

    def fitted(weights: Floats) -> NDArray[np.float64]:
        return minimize(loss, start, args=(weights,), jac=True, method="L-BFGS-B", bounds=bounds).x

    if documents is not None:
        start = fitted(_shared_weights(right, documents)[rows, columns])
        bounds[2:] = [(own, own) for own in start[2:].tolist()]  # how labels differ; the level is that of all places
    found = fitted(equal)
    temperature = float(np.exp(-found[0]))
    return LabelScaling(temperature, (found[1] + found[2:]) * temperature)


def _shared_weights(right: Booleans, documents: Sequence[str]) -> Floats:
    """(n, labels) 1, and where right, one over how many places of the document are right with that label."""
    _, numbers = np.unique(np.array(documents, str), return_inverse=True)
    counts = np.zeros((numbers.max(initial=-1) + 1, right.shape[1]))
    np.add.at(counts, numbers, right)
    return np.where(right, 1 / np.maximum(counts[numbers], 1), 1.0)
