"""Timing of one task: the fast engine and transformers in turns, in one process and on one thread."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from benchmarks.inputs import TASKS
from benchmarks.work import useful_flops
from luke_batch.arrays import FloatArray
from luke_batch.config import ModelConfig, Precision
from luke_batch.model.batching import length_sorted
from luke_batch.model.checkpoint import Checkpoint
from luke_batch.model.engine import Engine, Task, load_engine
from luke_batch.model.windows import Window

_LINEAR = (1024, 768, 3072)
"""Rows, inputs and outputs of the linear layer whose rate is the measure of the machine."""


@dataclass(frozen=True)
class Arm:
    """One way to run the windows."""

    name: str
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
    """What one arm did on one task."""

    task: Task
    arm: str
    items: int
    milliseconds: float
    """CPU time an item, median of the rounds."""
    ratio: float
    """How many times faster than transformers with one item a call, median over the rounds."""
    difference: float
    """Largest absolute one from transformers with one item a call."""
    agreement: float
    """Share of rows whose largest output is at the same place."""
    padding: float
    """Share of the positions that are words and entities."""
    rate: float
    """Useful FLOP/s over the rate of a linear layer."""


def arms(checkpoint: Checkpoint, precisions: Sequence[Precision]) -> list[Arm]:
    """The reference first: transformers with one item a call, in float32."""

    def load(engine: str, precision: Precision) -> Engine:
        config = ModelConfig.model_validate({"engine": engine, "precision": precision})
        return load_engine(config, checkpoint, TASKS, "cpu")

    found = [Arm("transformers, one item a call, float32", load("transformers", "float32"), one_a_call=True)]
    for precision in precisions:
        padded = load("transformers", precision)
        found.append(Arm(f"transformers, sorted batches, {precision}", padded, padded=True))
        found.append(Arm(f"fast, {precision}", load("fast", precision)))
    return found


def measure(
    checkpoint: Checkpoint, task: Task, windows: Sequence[Window], ways: Sequence[Arm], rounds: int
) -> list[Row]:
    """Time all `ways` in turns, `rounds` times after one that warms up."""
    outputs = [np.concatenate([rows.ravel() for rows in way.run(task, windows)]) for way in ways]
    labels = len(checkpoint.heads[task.head].labels) or checkpoint.hidden_size
    seconds = np.array(
        [[_seconds(lambda way=way: way.run(task, windows)) for way in ways] for _ in range(rounds)]
    )
    linear = median(_seconds(_linear()) for _ in range(rounds))
    peak = 2 * np.prod(_LINEAR) / linear
    flops = sum(useful_flops(checkpoint, task, window) for window in windows)
    return [
        Row(
            task=task,
            arm=way.name,
            items=len(windows),
            milliseconds=1e3 * float(np.median(seconds[:, place])) / len(windows),
            ratio=float(np.median(seconds[:, 0] / seconds[:, place])),
            difference=float(np.abs(outputs[place] - outputs[0]).max()),
            agreement=_agreement(outputs[place].reshape(-1, labels), outputs[0].reshape(-1, labels)),
            padding=_padding(windows) if way.padded else 1.0,
            rate=flops / float(np.median(seconds[:, place])) / peak,
        )
        for place, way in enumerate(ways)
    ]


def _seconds(work: Callable[[], object]) -> float:
    """CPU time, which other work on the machine disturbs less than the clock's."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _linear() -> Callable[[], object]:
    rows, inputs, outputs = _LINEAR
    states, layer = torch.randn(rows, inputs), torch.nn.Linear(inputs, outputs)

    def run() -> None:
        with torch.inference_mode():
            layer(states)

    run()
    return run


def _agreement(found: FloatArray, wanted: FloatArray) -> float:
    return float((found.argmax(1) == wanted.argmax(1)).mean())


def _padding(windows: Sequence[Window]) -> float:
    words = np.array([len(window.token_ids) for window in windows], np.int32)
    entities = np.array([len(window.entity_ids) for window in windows], np.int32)
    batches = length_sorted(words, entities, ModelConfig().max_tokens)
    padded = sum(len(rows) * (words[rows].max() + entities[rows].max()) for rows in batches)
    return float((words + entities).sum() / padded)
