"""`engine: fast`: our own forward pass over packed batches, equal to transformers within float tolerance."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.model.engine.batched_engine import BY_ENTITY, BatchedEngine, as_array, packed
from luke_batch.model.engine.encoder import Linear, PackedEncoder
from luke_batch.model.engine.packing import Indices, PackedWindows, pack
from luke_batch.model.engine.vocabulary_heads import MaskedHeads, PredictionHead
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.weights import head_state, pooler_state
from luke_batch.model.inputs.windows import Window
from luke_batch.model.settings import Precision
from luke_batch.model.task import Reads, Task

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class FastEngine(BatchedEngine):
    """An `Engine`; see there for what `run` promises."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        tasks: Collection[Task],
        device: str,
        max_tokens: int,
        precision: Precision = "float32",
    ) -> None:
        """Load the encoder and the heads of `tasks`. Raises CheckpointError where the weights do not fit."""
        super().__init__(checkpoint, tasks, device, max_tokens)
        self._encoder = PackedEncoder(checkpoint, device, _DTYPES[precision])
        self._heads = {task: _head(checkpoint, task, device) for task in tasks if task.reads.states}
        reads = {task.reads for task in tasks}
        if Reads.FIRST_WORD in reads:
            self._pooler = Linear(*pooler_state(checkpoint)).to(device, torch.float32)
        if Reads.CANDIDATES in reads:
            self._entity_head = PredictionHead.of_entities(checkpoint, self._encoder.entities, device)
        if Reads.GAPS in reads:
            self._masked_heads = MaskedHeads(checkpoint, self._encoder.tokens, self._encoder.entities, device)

    def _batches(self, tokens: IntArray, entities: IntArray) -> list[IntArray]:
        return packed(tokens, entities, self._max_tokens)

    def _positions(self, tokens: IntArray, entities: IntArray) -> int:
        return int(tokens.sum() + entities.sum())

    @torch.inference_mode()
    def _forward(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        batch = pack(windows)
        if not batch.entities and task.reads in BY_ENTITY:
            return [self._no_entities(task, window) for window in windows]
        match task.reads:
            case Reads.SPANS:
                return _cut(self._span_logits(task, batch), batch.first_entities)
            case Reads.ENTITY | Reads.PAIR:
                return list(as_array(self._first_entity_logits(task, batch)))
            case Reads.ENTITY_STATES | Reads.WORD_STATES | Reads.JOINT:
                return self._states(task, batch)
            case Reads.WORDS:
                states = self._encoder(batch, rows=batch.token_rows)
                return _cut(self._heads[task](states), batch.first_tokens)
            case Reads.FIRST_WORD:
                first = self._encoder(batch, rows=batch.first_rows[:-1])
                return list(as_array(self._heads[task](self._pooler(first).tanh())))
            case Reads.CANDIDATES | Reads.GAPS:
                return self._predictions(task, batch, windows)
            case Reads.BOUNDS:
                raise AssertionError("the span scorer answers it")

    def _span_logits(self, task: Task, batch: PackedWindows[Indices]) -> Tensor:
        """(e, labels) from [h_start; h_end; h_entity], as the sum of three products: each token once."""
        windows = np.repeat(batch.first_rows[:-1], np.diff(batch.first_entities))  # (e,) the first row of its own
        bounds = np.stack([batch.starts, batch.ends - 1], 1) + windows[:, None]
        tokens, places = np.unique(bounds, return_inverse=True)
        states = self._encoder(batch, rows=np.concatenate([tokens, batch.entity_rows]))
        head = self._heads[task]
        start, end, entity = head.weight.chunk(3, 1)
        from_tokens = states[: len(tokens)] @ torch.cat([start, end]).T
        starts, ends = torch.from_numpy(places.reshape(-1, 2)).to(states.device).unbind(1)
        labels = len(head.weight)
        logits = torch.addmm(head.bias, states[len(tokens) :], entity.T)
        return logits.add_(from_tokens[starts, :labels]).add_(from_tokens[ends, labels:])

    def _states(self, task: Task, batch: PackedWindows[Indices]) -> list[FloatArray]:
        """Of the entities, of the words, or (e + 1, hidden) of the entities and the mean of the words."""
        if task.reads is Reads.ENTITY_STATES:
            return _cut(self._encoder(batch, only_entities=True), batch.first_entities)
        if task.reads is Reads.WORD_STATES:
            return _cut(self._encoder(batch, rows=batch.token_rows), batch.first_tokens)
        states = self._encoder(batch)
        lengths = np.diff(batch.first_tokens)
        inner = np.ones(len(batch.token_rows), bool)
        inner[batch.first_tokens[:-1]] = inner[batch.first_tokens[1:] - 1] = False
        owners = np.repeat(np.arange(batch.windows), lengths)[inner]
        rows, owners = (torch.from_numpy(part).to(states.device) for part in (batch.token_rows[inner], owners))
        sums = states.new_zeros(batch.windows, states.shape[1]).index_add_(0, owners, states[rows])
        counts = torch.from_numpy(np.maximum(lengths - 2, 1)).to(states.device)
        means = as_array(sums / counts.unsqueeze(1))
        entities = _cut(states[torch.from_numpy(batch.entity_rows).to(states.device)], batch.first_entities)
        return [np.vstack(both) for both in zip(entities, means, strict=True)]

    def _predictions(self, task: Task, batch: PackedWindows[Indices], windows: Sequence[Window]) -> list[FloatArray]:
        """Of the heads of LukeForMaskedLM: of entities among candidates, or of words and entities in gaps."""
        if task.reads is Reads.CANDIDATES:
            return self._entity_head.among_candidates(self._encoder(batch, only_entities=True), windows)
        gaps = np.concatenate(
            [
                first + window.gaps.positions
                for first, window in zip(batch.first_rows, windows, strict=False)
                if window.gaps is not None
            ]
        )
        states = self._encoder(batch, rows=np.concatenate([gaps, batch.entity_rows]))
        return self._masked_heads(states[: len(gaps)], states[len(gaps) :], windows)

    def _first_entity_logits(self, task: Task, batch: PackedWindows[Indices]) -> Tensor:
        """(b, labels) from the first entity of each window, or the first two side by side."""
        features = task.reads.states
        rows = (batch.first_entities[:-1, None] + np.arange(features)).reshape(-1)
        states = self._encoder(batch, rows, only_entities=True)
        return self._heads[task](states.reshape(-1, features * states.shape[1]))


def _head(checkpoint: Checkpoint, task: Task, device: str) -> Linear:
    weight, bias = head_state(checkpoint, task.head)
    return Linear(weight, torch.zeros(len(weight)) if bias is None else bias).to(device, torch.float32)


def _cut(rows: Tensor, firsts: Indices) -> list[FloatArray]:
    """The (n, d) rows of each window, from the row of its first to that of the next one's."""
    return np.split(as_array(rows), firsts[1:-1])
