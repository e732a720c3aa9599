"""From the outputs of a head on annotated rows: its scores, its threshold and its temperature.

Decisions are those of inference (`heads.scores.Labels`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from luke_batch.evaluation.calibration import (
    expected_calibration_error,
    fit_label_scaling,
    fit_temperature,
    in_fitting_half,
)
from luke_batch.heads.head import Labels
from luke_batch.training.model import HeadSpec
from luke_batch.training.outputs import HeadOutputs


@dataclass(frozen=True, slots=True)
class DevScores:
    """Micro-averaged over labels, exact matches, all from 0 to 1."""

    precision: float
    recall: float
    f1: float
    accuracy: float | None
    """Share of places whose best label is right; for types alone."""
    support: int
    """Labels in gold."""


@dataclass(frozen=True, slots=True)
class CalibratedHead:
    """A head's settings after calibration, and its scores with them."""

    temperature: float
    offsets: tuple[float, ...]
    """Of each label, where several may hold."""
    outcome: str
    """`evaluation.calibration.Outcome`"""
    threshold: float | None
    """Where several labels may hold: a probability at that temperature."""
    ece_before: float
    """Expected calibration error on the half of the rows that nothing was fitted on, as the logits are."""
    ece_after: float
    reported_items: int
    scores: DevScores


def labels_of(
    spec: HeadSpec,
    temperature: float = 1.0,
    threshold: float | None = None,
    offsets: tuple[float, ...] = (),
) -> Labels:
    """How inference decodes a head of this kind."""
    none = -1 if spec.none_label is None else spec.labels.index(spec.none_label)
    return Labels(spec.labels, none, spec.multi_label, temperature, threshold or 0.5, offsets)


def written(outputs: HeadOutputs, labels: Labels) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(m,) places and (m,) labels of what inference would write, as `Labels.decode` chooses."""
    if labels.multi:
        chosen = labels.probabilities(outputs.logits) >= labels.threshold
    else:
        chosen = np.zeros(outputs.logits.shape, bool)
        chosen[np.arange(len(chosen)), outputs.logits.argmax(1)] = True
    if labels.none >= 0:
        chosen[:, labels.none] = False
    places, numbers = np.nonzero(chosen)
    return places, numbers


def score(outputs: HeadOutputs, labels: Labels, *, is_typing: bool = False) -> DevScores:
    """Scores of what inference would write."""
    places, numbers = written(outputs, labels)
    right = int(outputs.gold[places, numbers].sum())
    support = outputs.missed + int(outputs.gold.sum())
    if labels.none >= 0:
        support -= int(outputs.gold[:, labels.none].sum())
    precision, recall = right / max(1, len(places)), right / max(1, support)
    both = 2 * precision * recall / max(1e-9, precision + recall)
    accuracy = None
    if is_typing:
        best = outputs.gold[np.arange(len(outputs.gold)), outputs.logits.argmax(1)]
        accuracy = float(best.sum() / max(1, len(best) + outputs.unread))
    return DevScores(precision, recall, both, accuracy, support)


def threshold_of(outputs: HeadOutputs, labels: Labels, floor: float | None) -> float:
    """The probability of the best micro F1, of those with a precision of at least `floor` where there is one.

    It lies between two of the probabilities.
    """
    if not outputs.gold.size:
        return 0.5
    scores, gold = labels.probabilities(outputs.logits).ravel(), outputs.gold.ravel()
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(gold[order], dtype=np.int64)
    precision = right / np.arange(1, len(order) + 1)
    recall = right / max(1, gold.sum() + outputs.missed)
    both = 2 * precision * recall / np.maximum(1e-9, precision + recall)
    # Ties share one threshold: only the last of equal scores is a possible cut.
    last = np.append(np.diff(scores[order]) != 0, True)
    if floor is not None and (last & (precision >= floor)).any():
        last &= precision >= floor
    place = int(np.argmax(np.where(last, both, -1)))
    after = scores[order[place + 1]] if place + 1 < len(order) else 0.0
    return float(np.clip((scores[order[place]] + after) / 2, 1e-6, 1 - 1e-6))


def calibrated(outputs: HeadOutputs, spec: HeadSpec, floor: float | None, *, is_typing: bool) -> CalibratedHead:
    """A head's settings, fitted on one half of the rows, their calibration error on the other, and the scores
    of all rows with them.

    Where one label holds, what is written does not depend on the temperature. Where several may, each label
    has an offset beside it, and the threshold is one of the probabilities that come out.
    """
    fits = in_fitting_half(outputs.documents)
    fitted, reported = outputs.part(fits), outputs.part(~fits)
    plain = labels_of(spec)
    if spec.multi_label:
        plain = replace(plain, threshold=threshold_of(fitted, plain, floor))
        scaling = fit_label_scaling(fitted.logits, fitted.gold, fitted.documents)
        labels = labels_of(spec, scaling.temperature, None, tuple(float(value) for value in scaling.offsets))
        labels = replace(labels, threshold=threshold_of(fitted, labels, floor))
        outcome = "fitted" if fitted.gold.any() and not fitted.gold.all() else "no item"
    else:
        places, numbers = written(fitted, plain)
        found = fit_temperature(fitted.logits[places], numbers, fitted.gold[places, numbers], multi=False)
        labels, outcome = labels_of(spec, found.value), found.outcome
    return CalibratedHead(
        temperature=labels.temperature,
        offsets=labels.offsets,
        outcome=outcome,
        threshold=labels.threshold if spec.multi_label else None,
        ece_before=_calibration_error(reported, plain),
        ece_after=_calibration_error(reported, labels),
        reported_items=len(written(reported, labels)[0]),
        scores=score(outputs, labels, is_typing=is_typing),
    )


def _calibration_error(outputs: HeadOutputs, labels: Labels) -> float:
    places, numbers = written(outputs, labels)
    scores = labels.probabilities(outputs.logits)[places, numbers]
    return expected_calibration_error(scores, outputs.gold[places, numbers])
