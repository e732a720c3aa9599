"""How good a head is on annotated rows: outputs once, and from them scores, a threshold and a temperature.

Decoding is that of inference (`heads.ner.choose`, `heads.scores.Labels`), on rows that are one sentence each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray
from luke_batch.evaluation.calibration import (
    LabelScaling,
    calibrate,
    expected_calibration_error,
    fit_label_scaling,
    in_fitting_half,
)
from luke_batch.heads.ner import choose
from luke_batch.heads.scores import Labels
from luke_batch.model.inputs.windows import InputBuilder, Window
from luke_batch.training.data import Row
from luke_batch.training.labels import NOTHING, relation_pairs
from luke_batch.training.model import HeadSpec, MultiTaskModel
from luke_batch.training.pairs import RelationsTask
from luke_batch.training.predict import best_threshold, logits_of, span_logits
from luke_batch.training.sampling import Example
from luke_batch.training.tasks import Proposer, TypesTask

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a head says at n places (accepted spans, gold mentions, or pairs), and what is right there."""

    logits: FloatArray
    """(n, labels)"""
    gold: BoolArray
    """(n, labels)"""
    documents: tuple[str, ...]
    """(n,) ids of the rows."""
    missed: int = 0
    """Gold labels elsewhere: of spans that were not accepted, of places too long to read, of labels that the
    head does not have.
    """
    unread: int = 0
    """Gold mentions and pairs that are not among the places."""

    @classmethod
    def joined(cls, parts: Sequence[Outputs]) -> Outputs:
        """Those of several parts of the rows as one."""
        return cls(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.gold for part in parts]),
            tuple(name for part in parts for name in part.documents),
            sum(part.missed for part in parts),
            sum(part.unread for part in parts),
        )

    def part(self, chosen: BoolArray) -> Outputs:
        """Those of the chosen places, (n,), with their share of what was missed."""
        missed = round(self.missed * chosen.mean()) if len(chosen) else self.missed
        names = tuple(name for name, kept in zip(self.documents, chosen.tolist(), strict=True) if kept)
        return Outputs(self.logits[chosen], self.gold[chosen], names, missed)


@dataclass(frozen=True, slots=True)
class Scores:
    """Micro-averaged over labels, exact matches, all from 0 to 1."""

    precision: float
    recall: float
    f1: float
    accuracy: float | None
    """Share of places whose best label is right; for types alone."""
    support: int
    """Labels in gold."""


@dataclass(frozen=True, slots=True)
class Calibrated:
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
    scores: Scores

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def ner_outputs(model: MultiTaskModel, rows: Sequence[Row], builder: InputBuilder, propose: Proposer) -> Outputs:
    """The accepted spans of each row by flat decoding; spans of unknown label (None) count nowhere."""
    spec = model.specs["ner"]
    numbers = {label: number for number, label in enumerate(spec.labels)}
    logits: list[FloatArray] = [np.zeros((0, len(numbers)), np.float32)]
    gold: list[BoolArray] = [np.zeros((0, len(numbers)), bool)]
    documents: list[str] = []
    missed = 0
    for row, (spans, values) in zip(rows, span_logits(model, rows, builder, propose), strict=True):
        accepted = choose(spans, values, 0, np.zeros(len(spans), bool), nested=False)
        wanted = {((item.start, item.end), item.label) for item in row.entities}
        unsure = {span for span, label in wanted if label is None}
        accepted = accepted[[tuple(span) not in unsure for span in spans[accepted].tolist()]]
        right = np.zeros((len(accepted), len(numbers)), bool)
        for place, span in enumerate(map(tuple, spans[accepted].tolist())):
            for label in (label for where, label in wanted if where == span and label in numbers):
                right[place, numbers[label]] = True
        logits.append(values[accepted])
        gold.append(right)
        documents += [row.id] * len(accepted)
        missed += sum(label is not None for _, label in wanted) - int(right.sum())
    return Outputs(np.concatenate(logits), np.concatenate(gold), tuple(documents), missed)


def types_outputs(model: MultiTaskModel, rows: Sequence[Row], builder: InputBuilder) -> Outputs:
    """The types of every gold mention."""
    spec = model.specs["types"]
    task = TypesTask(rows, spec.labels, builder, Counter(), max_tokens=builder.max_tokens)
    places: list[tuple[str, set[str]]] = []
    windows: list[Window | None] = []
    for row in rows:
        labels: dict[tuple[int, int], set[str]] = {}
        for item in row.entities:
            if item.label is not None:
                labels.setdefault((item.start, item.end), set()).add(item.label)
        for (start, end), named in labels.items():
            places.append((row.id, named))
            windows.append(task.window(row, start, end))
    return _outputs(model, "types", builder, places, windows)


def relations_outputs(
    model: MultiTaskModel, rows: Sequence[Row], builder: InputBuilder, *, given: bool = False
) -> Outputs:
    """The relations of all ordered pairs of a row's entities, or of those pairs that stand in the data."""
    pairs = relation_pairs(rows, None, given=given)
    task = RelationsTask(pairs, model.specs["relations"].labels, builder, Counter(), max_tokens=builder.max_tokens)
    places = [(pair.row.id, set(pair.labels)) for pair in pairs]
    outputs = _outputs(model, "relations", builder, places, [task.window(pair) for pair in pairs])
    told = {(number, item) for number, row in enumerate(rows) for item in row.relations if item.label not in NOTHING}
    # Of a pair whose mentions overlap nothing can be asked.
    return replace(outputs, missed=outputs.missed + len(told) - sum(len(pair.labels) for pair in pairs))


def _outputs(
    model: MultiTaskModel,
    head: str,
    builder: InputBuilder,
    places: Sequence[tuple[str, set[str]]],
    windows: Sequence[Window | None],
) -> Outputs:
    spec = model.specs[head]
    labels = spec.labels
    blank = np.zeros(len(labels), np.float32) if spec.multi_label else np.zeros(1, np.int64)
    examples = [Example(window, blank) for window in windows if window is not None]
    read = [place for place, window in zip(places, windows, strict=True) if window is not None]
    logits = [item.reshape(-1) for item in logits_of(model, head, examples, builder.tokenizer.pad_id)]
    gold = [[label in named for label in labels] for _, named in read]
    shape = (len(read), len(labels))
    right = np.array(gold, bool).reshape(shape)
    total = sum(len(named) for _, named in places)
    return Outputs(
        np.array(logits, np.float32).reshape(shape),
        right,
        tuple(name for name, _ in read),
        total - int(right.sum()),
        len(places) - len(read),
    )


def labels_of(
    spec: HeadSpec,
    temperature: float = 1.0,
    threshold: float | None = None,
    offsets: tuple[float, ...] = (),
) -> Labels:
    """How inference decodes a head of this kind."""
    none = -1 if spec.none_label is None else spec.labels.index(spec.none_label)
    return Labels(spec.labels, none, spec.multi_label, temperature, threshold or 0.5, offsets)


def written(outputs: Outputs, labels: Labels) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
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


def score(outputs: Outputs, labels: Labels, *, is_typing: bool = False) -> Scores:
    """Scores of what inference would write."""
    places, numbers = written(outputs, labels)
    right = int(outputs.gold[places, numbers].sum())
    support = _support(outputs, labels)
    precision, recall = right / max(1, len(places)), right / max(1, support)
    both = 2 * precision * recall / max(1e-9, precision + recall)
    accuracy = None
    if is_typing:
        best = outputs.gold[np.arange(len(outputs.gold)), outputs.logits.argmax(1)]
        accuracy = float(best.sum() / max(1, len(best) + outputs.unread))
    return Scores(precision, recall, both, accuracy, support)


def threshold_of(outputs: Outputs, labels: Labels, floor: float | None) -> float:
    """The probability of the best F1, of those with a precision of at least `floor` where there is one."""
    if not outputs.gold.size:
        return 0.5
    scores = labels.probabilities(outputs.logits)
    found = best_threshold(scores, outputs.gold, missed=outputs.missed, least_precision=floor or 0.0)
    return float(np.clip(found[0], 1e-6, 1 - 1e-6))


def calibrated(outputs: Outputs, spec: HeadSpec, floor: float | None, *, is_typing: bool) -> Calibrated:
    """A head's settings, fitted on one half of the rows, their calibration error on the other, and the scores
    of all rows with them.

    Where one label holds, what is written does not depend on the temperature. Where several may, each label
    has an offset beside it, and the threshold is one of the probabilities that come out.
    """
    if spec.multi_label:
        return _scaled(outputs, spec, floor, is_typing=is_typing)
    places, numbers = written(outputs, labels_of(spec))
    found = calibrate(
        outputs.logits[places],
        numbers,
        outputs.gold[places, numbers],
        [outputs.documents[place] for place in places.tolist()],
        multi=False,
    )
    temperature = found.temperature.value
    return Calibrated(
        temperature=temperature,
        offsets=(),
        outcome=found.temperature.outcome,
        threshold=None,
        ece_before=found.before,
        ece_after=found.after,
        reported_items=found.reported_items,
        scores=score(outputs, labels_of(spec, temperature), is_typing=is_typing),
    )


def _scaled(outputs: Outputs, spec: HeadSpec, floor: float | None, *, is_typing: bool) -> Calibrated:
    fits = in_fitting_half(outputs.documents)
    fitted, reported = outputs.part(fits), outputs.part(~fits)
    plain = labels_of(spec)
    plain = replace(plain, threshold=threshold_of(fitted, plain, floor))
    scaling = fit_label_scaling(fitted.logits, fitted.gold)
    labels = _scaled_labels(spec, scaling)
    least = threshold_of(fitted, labels, floor)
    labels = replace(labels, threshold=least)
    return Calibrated(
        temperature=scaling.temperature,
        offsets=labels.offsets,
        outcome="fitted" if fitted.gold.any() and not fitted.gold.all() else "no item",
        threshold=labels.threshold,
        ece_before=_calibration_error(reported, plain),
        ece_after=_calibration_error(reported, labels),
        reported_items=len(written(reported, labels)[0]),
        scores=score(outputs, labels, is_typing=is_typing),
    )


def _scaled_labels(spec: HeadSpec, scaling: LabelScaling) -> Labels:
    return labels_of(spec, scaling.temperature, None, tuple(float(value) for value in scaling.offsets))


def _calibration_error(outputs: Outputs, labels: Labels) -> float:
    places, numbers = written(outputs, labels)
    scores = labels.probabilities(outputs.logits)[places, numbers]
    return expected_calibration_error(scores, outputs.gold[places, numbers])


def _support(outputs: Outputs, labels: Labels) -> int:
    counted = outputs.gold.copy()
    if labels.none >= 0:
        counted[:, labels.none] = False
    return int(counted.sum()) + outputs.missed
