"""What every engine does around its forward pass: refuse bad inputs, batch, survive a full memory."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from functools import partial

import numpy as np
import torch

from luke_batch.base import meters, pulse
from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.base.errors import CheckpointError, DeviceError
from luke_batch.model.engine.batching import run_halving
from luke_batch.model.engine.span_scorer import SpanScorer
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Reads, Task

BY_ENTITY = (Reads.SPANS, Reads.ENTITY_STATES, Reads.CANDIDATES)
"""Their outputs have a row for each entity."""
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


class BatchedEngine(ABC):
    """An `Engine` but for its batches and its forward pass."""

    def __init__(self, checkpoint: Checkpoint, tasks: Collection[Task], device: str, max_tokens: int) -> None:
        self._checkpoint = checkpoint
        self._tasks = frozenset(tasks)
        self._device = device
        self._max_tokens = max_tokens
        self._pad_id = checkpoint.setting("pad_token_id")
        self._scorer = SpanScorer(checkpoint) if Task.BOUNDS in tasks else None

    @abstractmethod
    def _batches(self, words: IntArray, entities: IntArray) -> list[IntArray]:
        """Indices of the windows of each batch, from the (n,) lengths of all."""

    @abstractmethod
    def _positions(self, words: IntArray, entities: IntArray) -> int:
        """Words and entities that a batch computes, padding too, from the (n,) lengths of its windows."""

    @abstractmethod
    def _forward(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        """The outputs of one batch, which has at least one window."""

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        """The outputs of `task` for each window.

        Raises CheckpointError where ids lie outside of the embeddings, and DeviceError where the GPU is lost.
        """
        if task.head != "embeddings" and task not in self._tasks:
            raise ValueError(f"the engine was not loaded for the task {task}")
        self._check(task, windows)
        words = np.array([len(window.token_ids) for window in windows], np.int32)
        entities = np.array([len(window.entity_ids) for window in windows], np.int32)
        results: dict[int, FloatArray] = {}
        for rows in self._batches(words, entities):
            pulse.beat()
            self._count(words[rows], entities[rows])
            batch = [windows[row] for row in rows]
            try:
                outputs = run_halving(partial(self._outputs, task), batch, self._is_out_of_memory)
            except RuntimeError as error:
                self._check_device(error)
                raise
            results.update(zip(rows.tolist(), outputs, strict=True))
        return [results[row] for row in range(len(windows))]

    def _count(self, words: IntArray, entities: IntArray) -> None:
        used = int(words.sum() + entities.sum())
        meters.count("batches")
        meters.count("positions", used, "used")
        meters.count("positions", self._positions(words, entities) - used, "padding")

    def _outputs(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        if task.reads is not Reads.BOUNDS:
            return self._forward(task, windows)
        assert self._scorer is not None, "checked in run"
        return self._scorer(windows)

    def _no_entities(self, task: Task, window: Window) -> FloatArray:
        """What a window without entities has to say to one of BY_ENTITY."""
        if window.candidates is not None:
            return np.zeros((0, window.candidates.shape[1]), np.float32)
        width = len(self._checkpoint.heads[task.head].labels) or self._checkpoint.hidden_size
        return np.zeros((0, width), np.float32)

    def _check(self, task: Task, windows: Sequence[Window]) -> None:
        """Refuse what would be an IndexError inside of torch, or on a GPU the end of the process."""
        limits = [self._checkpoint.setting(name) for name in ("vocab_size", "entity_vocab_size")]
        longest = self._checkpoint.setting("max_position_embeddings") - self._pad_id - 1
        for window in windows:
            for ids, limit, kind in zip(
                (window.token_ids, window.entity_ids), limits, ("token", "entity"), strict=True
            ):
                if ids.size and not 0 <= ids.min() <= ids.max() < limit:
                    raise CheckpointError(
                        f"{self._checkpoint.path}: the tokenizer gives the {kind} id {ids.max()}, but the "
                        f"weights have {limit} rows; tokenizer and weights do not belong together"
                    )
            self._check_candidates(task, window)
            self._check_gaps(task, window)
            if len(window.token_ids) > longest:
                raise ValueError(f"a window of {len(window.token_ids)} tokens; the model takes {longest}")
            if len(window.entity_ids) < task.reads.needs_entities:
                raise ValueError(f"{len(window.entity_ids)} entities are too few for the task {task}")

    def _check_candidates(self, task: Task, window: Window) -> None:
        candidates = window.candidates
        if (candidates is not None) != (task.reads is Reads.CANDIDATES):
            raise ValueError("candidates are what windows of the task links have, and no others")
        if candidates is None or not candidates.size:
            return
        rows = self._checkpoint.setting("entity_vocab_size")
        if len(candidates) != len(window.entity_ids) or not -1 <= candidates.min() <= candidates.max() < rows:
            raise ValueError(f"candidates must be ids below {rows}, or -1, for each entity")

    def _check_gaps(self, task: Task, window: Window) -> None:
        gaps, entities = window.gaps, len(window.entity_ids)
        if (gaps is not None) != (task.reads is Reads.GAPS):
            raise ValueError("gaps are what windows of the task cloze have, and no others")
        if gaps is None:
            return
        words = len(gaps.positions)
        if not words + entities or (
            words and not 0 <= gaps.positions.min() <= gaps.positions.max() < len(window.token_ids)
        ):
            raise ValueError("the gaps of a window must be tokens of it, and there must be a place to fill")
        if gaps.candidates is None:
            return
        settings = ["vocab_size"] * words + ["entity_vocab_size"] * entities
        limits = np.array([self._checkpoint.setting(name) for name in settings])
        within = (gaps.candidates >= -1) & (gaps.candidates < limits[:, None])
        if not within.all():
            raise ValueError("candidates must be ids of the vocabularies, or -1")

    def _is_out_of_memory(self, error: Exception) -> bool:
        if not isinstance(error, (RuntimeError, MemoryError)):
            return False
        found = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
            phrase in str(error).lower() for phrase in OUT_OF_MEMORY
        )
        if found and self._device != "cpu":
            torch.cuda.empty_cache()  # blocks of the failed sizes are of no use to the halves
        return found

    def _check_device(self, cause: RuntimeError) -> None:
        """DeviceError where the device fails whatever it is asked: after a device-side assert or a lost
        context CUDA repeats its error until the process ends, while other errors are those of one batch.
        """
        if self._device == "cpu":
            return
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            reason = next(iter(str(cause).splitlines()), type(cause).__name__)
            raise DeviceError(f"the GPU of this process no longer answers: {reason}") from cause


def as_array(tensor: torch.Tensor) -> FloatArray:
    """A tensor of any device as float32."""
    return tensor.to("cpu", torch.float32).numpy()
