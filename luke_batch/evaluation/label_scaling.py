"""Calibration of a head whose labels do not exclude one another: a temperature and an offset for each label.

Platt scaling (Platt 1999) with one slope for all labels: the probability of a label is
sigmoid((logit + offset) / temperature). Labels are rare to different degrees, which one temperature cannot
tell; probabilities that can be compared across labels also let one threshold serve all of them (Lipton et al.
2014, Optimal Thresholding of Classifiers to Maximize F1 Measure).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luke_batch.evaluation.calibration import BOUNDS, Booleans
from luke_batch.evaluation.libraries import check_libraries

_SHRINKAGE = 0.5
"""The prior on how far a label's offset lies from that of all labels, in nats squared: a label that is seen
once or twice keeps the common one.
"""
_SHARE = 0.9
"""Of the right labels, those whose logits are reached; what lies below is so surely wrong that fitting it
would bend the slope where scores are written.
"""


@dataclass(frozen=True, slots=True, eq=False)
class LabelScaling:
    """(logits + offsets) / temperature are the log odds."""

    temperature: float
    offsets: NDArray[np.float64]
    """(labels,)"""


def fit_label_scaling(logits: NDArray[np.floating], right: Booleans) -> LabelScaling:
    """The scaling under which the right labels are likeliest; none (1 and zeros) where all or none are right.

    Args:
        logits: (n, labels) raw.
        right: (n, labels).

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

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope, common, own = np.exp(parameters[0]), parameters[1], parameters[2:]
        odds = slope * values + common + own[columns]
        pull = -signs * expit(-signs * odds)
        gradient = np.concatenate(
            [[slope * pull @ values], [pull.sum()], np.bincount(columns, pull, labels) + own / _SHRINKAGE]
        )
        return float(-log_expit(signs * odds).sum() + (own**2).sum() / (2 * _SHRINKAGE)), gradient

    start = np.zeros(labels + 2)
    bounds = [(-np.log(BOUNDS[1]), -np.log(BOUNDS[0])), *[(None, None)] * (labels + 1)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    temperature = float(np.exp(-found[0]))
    return LabelScaling(temperature, (found[1] + found[2:]) * temperature)
