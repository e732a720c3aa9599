"""Timing of one task: the fast engine and transformers in turns, in one process and on one thread."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from benchmarks.inputs import Sentences, tasks_of
from benchmarks.work import useful_flops
from luke_batch.base.arrays import FloatArray
from luke_batch.config import ModelConfig, Precision
from luke_batch.model.engine.batched_engine import length_sorted
from luke_batch.model.engine.device import ON_CPU
from luke_batch.model.engine.encoder import Linear, PackedLinear
from luke_batch.model.engine.engine import Engine, load_engine
from luke_batch.model.files.checkpoint import Checkpoint, resolve
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Task

_LINEAR = (1024, 768, 3072)
"""Rows, inputs and outputs of the linear layer whose rate is the measure of the machine."""


@dataclass(frozen=True)
class Arm:
    """One way to run windows."""

    name: str
    precision: Precision
    engine: Engine
    one_a_call: bool = False
    padded: bool = False

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        """The outputs of all windows."""
        if self.one_a_call:
            return [self.engine.run(task, [window])[0] for window in windows]
        return self.engine.run(task, windows)


@dataclass(frozen=True)
class Row:
    """What one arm did on one task. None: the comparison has no meaning."""

    arm: str
    items: int
    milliseconds: float
    """CPU time an item, median of the rounds."""
    ratio: float
    """How many times faster than transformers with one item a call, median over the rounds."""
    over_sorted: float
    """The same over transformers in sorted batches, in the last of the precisions."""
    difference: float | None = None
    """Largest absolute one from transformers with one item a call."""
    agreement: float | None = None
    """Share of rows whose largest output is at the same place."""
    padding: float | None = None
    """Share of the positions that are words and entities."""
    rate: float | None = None
    """Useful FLOP/s over the rate of a linear layer in the arm's precision."""


class Arms:
    """The ways to run a checkpoint: transformers with one item a call or in sorted batches, and `fast`."""

    def __init__(self, checkpoint: Checkpoint, precisions: Sequence[Precision]) -> None:
        self.checkpoint = checkpoint

        def load(engine: str, precision: Precision) -> Engine:
            config = ModelConfig.model_validate({"engine": engine, "precision": precision})
            return load_engine(config, checkpoint, tasks_of(checkpoint), "cpu")

        reference = load("transformers", "float32")
        self._one = Arm("transformers, one item a call, float32", "float32", reference, one_a_call=True)
        self._sorted = [
            Arm(f"transformers, sorted batches, {name}", name, load("transformers", name), padded=True)
            for name in precisions
        ]
        self._fast = [Arm(f"fast, {name}", name, load("fast", name)) for name in precisions]
        self._scorer = load_engine(ModelConfig(), resolve("embedded"), [Task.BOUNDS], "cpu")

    def measure(self, task: Task, windows: Sequence[Window], items: int, rounds: int) -> list[Row]:
        """Time all ways on the same windows in turns, `rounds` times after one that warms up."""
        arms = [self._one, *self._sorted, *self._fast]
        outputs = [np.concatenate([rows.ravel() for rows in arm.run(task, windows)]) for arm in arms]
        seconds = _rounds([lambda arm=arm: arm.run(task, windows) for arm in arms], rounds)
        labels = len(self.checkpoint.heads[task.head].labels) or self.checkpoint.hidden_size
        flops = sum(useful_flops(self.checkpoint, task, window) for window in windows)
        peaks = {arm.precision: _peak(arm.precision, rounds) for arm in arms}
        wanted = outputs[0].reshape(-1, labels).argmax(1)
        return [
            replace(
                _row(arm, items, seconds[:, place], seconds[:, 0], seconds[:, len(self._sorted)]),
                difference=float(np.abs(outputs[place] - outputs[0]).max()),
                agreement=None
                if task == Task.MENTIONS  # vectors have no best label
                else float((outputs[place].reshape(-1, labels).argmax(1) == wanted).mean()),
                padding=_padding(windows) if arm.padded else 1.0,
                rate=flops / float(np.median(seconds[:, place])) / peaks[arm.precision],
            )
            for place, arm in enumerate(arms)
        ]

    def measure_filtered(self, sentences: Sentences, rounds: int) -> list[Row]:
        """NER over the spans that the embedded model's scorer leaves, its time included, against transformers
        over all spans of the same sentences.
        """

        def filtered(arm: Arm) -> None:
            self._scorer.run(Task.BOUNDS, sentences.scored)
            arm.run(Task.NER, sentences.kept)

        known = [self._one, self._sorted[-1]]
        ways = [lambda arm=arm: arm.run(Task.NER, sentences.all) for arm in known]
        ways += [lambda arm=arm: filtered(arm) for arm in self._fast]
        seconds = _rounds(ways, rounds)
        return [
            _row(arm, sentences.count, seconds[:, place], seconds[:, 0], seconds[:, 1])
            for place, arm in enumerate(self._fast, start=len(known))
        ]


def _row(arm: Arm, items: int, own: FloatArray, one: FloatArray, batches: FloatArray) -> Row:
    """From the seconds of each round: of the arm, of one item a call, and of sorted batches."""
    return Row(
        arm=arm.name,
        items=items,
        milliseconds=1e3 * float(np.median(own)) / items,
        ratio=float(np.median(one / own)),
        over_sorted=float(np.median(batches / own)),
    )


def _rounds(ways: Sequence[Callable[[], object]], rounds: int) -> FloatArray:
    """(rounds, ways) CPU seconds, which other work on the machine disturbs less than the clock's. Each way is
    run once before.
    """
    for way in ways:
        way()
    return np.array([[_seconds(way) for way in ways] for _ in range(rounds)])


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _peak(precision: Precision, rounds: int) -> float:
    """FLOP/s of a linear layer whose weight is laid out for this CPU."""
    rows, inputs, outputs = _LINEAR
    dtype = getattr(torch, precision)
    states = torch.randn(rows, inputs, dtype=dtype)
    layer = PackedLinear(Linear(torch.randn(outputs, inputs), torch.zeros(outputs)), "cpu", dtype)
    with torch.inference_mode():
        layer(states)
        taken = median(_seconds(lambda: [layer(states) for _ in range(8)]) / 8 for _ in range(rounds))
    return 2 * float(np.prod(_LINEAR)) / taken


def _padding(windows: Sequence[Window]) -> float:
    words = np.array([len(window.token_ids) for window in windows], np.int32)
    entities = np.array([len(window.entity_ids) for window in windows], np.int32)
    batches = length_sorted(words, entities, ON_CPU)
    padded = sum(len(rows) * (words[rows].max() + entities[rows].max()) for rows in batches)
    return float((words + entities).sum() / padded)
