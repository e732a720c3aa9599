"""How far a faster precision agrees with float32, told by the labels that both give to the same windows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luke_batch.base.arrays import FloatArray
from luke_batch.model.engine.engine import Engine
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.facts import HeadFacts
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Task

LEAST_AGREEMENT = 0.995
"""Share of labels that must be the same."""
LEAST_LABELS = 50
"""Labels of a task below which nothing is shown."""
_SAME_DIRECTION = 0.999
"""Cosine of two vectors that are as good as one."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Labels of one task."""

    compared: int = 0
    agreeing: int = 0

    @property
    def shown(self) -> bool:
        """Enough of them agree, and there are enough of them; one that differs is never too many."""
        differing = self.compared - self.agreeing
        return self.compared >= LEAST_LABELS and differing <= max(1, (1 - LEAST_AGREEMENT) * self.compared)


Found = dict[Task, Tally]


class ComparedEngine:
    """An `Engine` that answers as `reference` does, and asks `candidate` the same."""

    def __init__(self, reference: Engine, candidate: Engine, checkpoint: Checkpoint, found: Found) -> None:
        """found: what is compared is added here."""
        self._reference = reference
        self._candidate = candidate
        self._facts = checkpoint.heads
        self._found = found

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        """The outputs of the reference."""
        wanted = self._reference.run(task, windows)
        if task != Task.BOUNDS:  # the scorer has one precision
            try:
                outputs = self._candidate.run(task, windows)
            except FloatingPointError:  # it overflows: all labels differ from what is no number
                outputs = None
            for place, one in enumerate(wanted):
                same = same_labels(task, self._facts[task.head], one, one if outputs is None else outputs[place])
                same &= outputs is not None
                before = self._found.get(task, Tally())
                self._found[task] = Tally(before.compared + same.size, before.agreeing + int(same.sum()))
        return wanted


def same_labels(task: Task, facts: HeadFacts, one: FloatArray, other: FloatArray) -> np.ndarray:
    """(n,) bool: which of the labels, links or vectors in two outputs of `task` are the same.

    Empty where an output holds no decision: a regression, or one of several choices that are judged together.
    """
    match task:
        case Task.MENTIONS | Task.TEXT:
            lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            return (one * other).sum(1) >= _SAME_DIRECTION * lengths
        case Task.CHOICE:
            return np.zeros(0, bool)
        case Task.QA:
            return one.argmax(0) == other.argmax(0)
        case Task.CLOZE if one.ndim == 3:
            return one[:, 0, 0] == other[:, 0, 0]
        case _ if facts.regression:
            return np.zeros(0, bool)
        case _ if facts.multi_label:
            return (_chosen(np.atleast_2d(one), facts) == _chosen(np.atleast_2d(other), facts)).all(1)
        case _:
            return np.atleast_2d(one).argmax(1) == np.atleast_2d(other).argmax(1)


def _chosen(logits: FloatArray, facts: HeadFacts) -> np.ndarray:
    """(n, labels) bool: those at or above the checkpoint's threshold."""
    threshold = facts.threshold or 0.5
    scaled = (logits + np.array(facts.offsets or 0.0, np.float32)) / facts.temperature
    return scaled >= np.log(threshold / (1 - threshold))
