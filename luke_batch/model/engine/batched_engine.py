"""What every engine does around its forward pass: refuse bad inputs, batch, survive a full memory, refuse NaN.

Batches are sorted by length and cut under a budget. A padded batch reaches to its longest row of tokens and its
longest row of entities, and costs (max tokens + max entities) x rows positions; sorted by length, rows of one
batch differ little. A packed batch costs the tokens and entities that it has; sorted by length, rows of equal
shape are neighbours.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from luke_batch.base import meters
from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.base.errors import CheckpointError, DeviceError
from luke_batch.model.engine.span_scorer import SpanScorer
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Reads, Task

Item = TypeVar("Item")
Result = TypeVar("Result")

_NEEDED_ENTITIES = {Reads.ENTITY: 1, Reads.PAIR: 2}
"""The least number of entities of a window."""
BY_ENTITY = (Reads.SPANS, Reads.ENTITY_STATES, Reads.CANDIDATES)
"""Their outputs have a row for each entity."""
_OF_EVERY_CHECKPOINT = (Reads.ENTITY_STATES, Reads.WORD_STATES, Reads.JOINT)
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


class BatchedEngine(ABC):
    """An `Engine` but for its batches and its forward pass."""

    def __init__(self, checkpoint: Checkpoint, tasks: Collection[Task], device: str, max_tokens: int) -> None:
        self._checkpoint = checkpoint
        self._tasks = frozenset(tasks)
        self._device = device
        self._max_tokens = max_tokens
        self._pad_id = checkpoint.setting("pad_token_id")
        self._rows = checkpoint.setting("vocab_size"), checkpoint.setting("entity_vocab_size")
        self._longest = checkpoint.setting("max_position_embeddings") - self._pad_id - 1
        reads = {task.reads for task in tasks}
        self._scorer = SpanScorer(checkpoint) if Reads.BOUNDS in reads else None

    @abstractmethod
    def _batches(self, tokens: IntArray, entities: IntArray) -> list[IntArray]:
        """Indices of the windows of each batch, from the (n,) lengths of all."""

    @abstractmethod
    def _positions(self, tokens: IntArray, entities: IntArray) -> int:
        """Tokens and entities that a batch computes, padding too, from the (n,) lengths of its windows."""

    @abstractmethod
    def _forward(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        """The outputs of one batch, which has at least one window."""

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        """The outputs of `task` for each window.

        Raises CheckpointError where ids lie outside of the embeddings, DeviceError where the GPU is lost, and
        FloatingPointError where a window's output is no number.
        """
        if task.reads not in _OF_EVERY_CHECKPOINT and task not in self._tasks:
            raise ValueError(f"the engine was not loaded for the task {task}")
        self._check(task, windows)
        tokens = np.array([len(window.token_ids) for window in windows], np.int32)
        entities = np.array([len(window.entity_ids) for window in windows], np.int32)
        results: dict[int, FloatArray] = {}
        for rows in self._batches(tokens, entities):
            meters.beat()
            if task.reads is not Reads.BOUNDS:  # no pass of the encoder
                self._count(tokens[rows], entities[rows])
            batch = [windows[row] for row in rows]
            try:
                outputs = run_halving(partial(self._outputs, task), batch, self._is_out_of_memory)
            except RuntimeError as error:
                self._check_device(error)
                raise
            _check_numbers(task, outputs)
            results.update(zip(rows.tolist(), outputs, strict=True))
        return [results[row] for row in range(len(windows))]

    def _count(self, tokens: IntArray, entities: IntArray) -> None:
        used = int(tokens.sum() + entities.sum())
        meters.count("batches")
        meters.count("positions", used, "used")
        meters.count("positions", self._positions(tokens, entities) - used, "padding")

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
        limits, longest = self._rows, self._longest
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
            if len(window.entity_ids) < _NEEDED_ENTITIES.get(task.reads, 0):
                raise ValueError(f"{len(window.entity_ids)} entities are too few for the task {task}")

    def _check_candidates(self, task: Task, window: Window) -> None:
        candidates = window.candidates
        if (candidates is not None) != (task.reads is Reads.CANDIDATES):
            raise ValueError("candidates are what windows of the task links have, and no others")
        if candidates is None or not candidates.size:
            return
        rows = self._rows[1]
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
        limits = np.repeat(self._rows, [words, entities])
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


def _check_numbers(task: Task, outputs: Sequence[FloatArray]) -> None:
    """FloatingPointError where an output holds NaN or infinity; -inf is what padded candidates have.

    The maximum keeps NaN, and makes no copy of what may be hundreds of megabytes.
    """
    most = np.array([output.max(initial=-np.inf) for output in outputs], np.float32)
    if not (most < np.inf).all():
        raise FloatingPointError(
            f"the model's output for the task {task} is not a number (NaN or infinity) for this text: weights that"
            " it reads are damaged, or their `precision` overflows; check the checkpoint, or set `precision: float32`"
        )


def length_sorted(tokens: IntArray, entities: IntArray, max_tokens: int) -> list[IntArray]:
    """Indices of the rows of each batch, the costliest batch first so that memory runs out early if at all.

    tokens, entities: (n,) lengths of each row. A row that alone is over the budget is a batch of its own. The
    result depends on the lengths and the order of equal ones only.
    """
    order = _longest_first(tokens, entities)
    batches: list[IntArray] = []
    start = most_tokens = most_entities = 0
    for position, row in enumerate(order.tolist()):
        wider = max(most_tokens, int(tokens[row]))
        deeper = max(most_entities, int(entities[row]))
        if position > start and (wider + deeper) * (position - start + 1) > max_tokens:
            batches.append(order[start:position])
            start, wider, deeper = position, int(tokens[row]), int(entities[row])
        most_tokens, most_entities = wider, deeper
    if len(order):
        batches.append(order[start:])
    return batches


def packed(tokens: IntArray, entities: IntArray, max_rows: int) -> list[IntArray]:
    """Indices of the windows of each batch: of at most `max_rows` tokens and entities together, or one window.

    tokens, entities: (n,) lengths of each window. Otherwise as `length_sorted`.
    """
    order = _longest_first(tokens, entities)
    ends = np.cumsum((tokens + entities)[order])
    batches: list[IntArray] = []
    start = 0
    while start < len(order):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + max_rows, side="right")))
        batches.append(order[start:end])
        start = end
    return batches


def _longest_first(tokens: IntArray, entities: IntArray) -> IntArray:
    return np.lexsort((np.arange(len(tokens)), -tokens, -(tokens + entities))).astype(np.int32)


def run_halving(
    run: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    out_of_memory: Callable[[Exception], bool],
) -> list[Result]:
    """`run(items)`, in halves where `out_of_memory` knows the error; raised where one item does not fit."""
    try:
        return run(items)
    except Exception as error:
        if len(items) == 1 or not out_of_memory(error):
            raise
    # Outside of `except`: the traceback would keep the tensors of the failed attempt alive.
    half = (len(items) + 1) // 2
    return run_halving(run, items[:half], out_of_memory) + run_halving(run, items[half:], out_of_memory)
