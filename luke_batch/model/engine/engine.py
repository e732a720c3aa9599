"""The seam between heads and forward passes: what every engine takes and gives. Imports no torch."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from luke_batch.base.arrays import FloatArray
from luke_batch.model.engine.device import ON_CPU, default_budget
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Window
from luke_batch.model.settings import ModelConfig
from luke_batch.model.task import Task


class Engine(Protocol):
    """Runs the forward pass of one loaded checkpoint."""

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        """One float32 array for each window, in their order; shapes as `Reads` says.

        How the engine batches them changes no result (within float tolerance). Out of memory, it halves its
        batches down to one window and raises torch's error only then.
        """
        ...


LoadEngine = Callable[[ModelConfig, Checkpoint, Collection[Task], str], Engine]
"""`load_engine`, or what stands for it."""


def load_engine(config: ModelConfig, checkpoint: Checkpoint, tasks: Collection[Task], device: str) -> Engine:
    """Load `checkpoint` for `tasks` on `device` ("cpu", "cuda"; see `pick_device`).

    `precision: auto` that nothing has decided is float32.
    Raises CheckpointError where the checkpoint has no head for a task or its weights cannot be used.
    """
    for task in tasks:
        checkpoint.require(task.head)
    precision = "float32" if config.precision == "auto" else config.precision
    budget = config.max_tokens
    if budget == "auto":
        # transformers builds tensors that are many times as large, for which nobody has counted.
        budget = default_budget(checkpoint, device) if config.engine == "fast" else ON_CPU
    # Here, not above: a plan that finds nothing to do must not pay for torch.
    match config.engine:
        case "fast":
            from luke_batch.model.engine.fast_engine import FastEngine

            return FastEngine(checkpoint, tasks, device, budget, precision)
        case "transformers":
            from luke_batch.model.engine.transformers_engine import TransformersEngine

            return TransformersEngine(checkpoint, tasks, device, budget, precision)
