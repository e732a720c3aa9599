"""`engine: transformers`: forward passes of transformers' own classes, the reference for every other engine.

Heads of one checkpoint share one encoder. Batches are length-sorted and padded. In bfloat16 only the products
are (torch's autocast); the weights, the norms and what comes out stay float32.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    LukeConfig,
    LukeForEntityClassification,
    LukeForEntityPairClassification,
    LukeForEntitySpanClassification,
    LukeForMultipleChoice,
    LukeForQuestionAnswering,
    LukeForSequenceClassification,
    LukeForTokenClassification,
    LukeModel,
)

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.model.engine.batched_engine import BY_ENTITY, BatchedEngine, as_array, length_sorted
from luke_batch.model.engine.packing import Indices
from luke_batch.model.engine.vocabulary_heads import MaskedHeads, PredictionHead
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.weights import encoder_state, encoder_tables, head_state, pooler_state
from luke_batch.model.inputs.windows import Window, padded_positions
from luke_batch.model.settings import Precision
from luke_batch.model.task import Reads, Task

# transformers' classes carry too few types for strict checking.
HEAD_CLASSES: dict[Reads, Any] = {
    Reads.SPANS: LukeForEntitySpanClassification,
    Reads.ENTITY: LukeForEntityClassification,
    Reads.PAIR: LukeForEntityPairClassification,
    Reads.FIRST_WORD: LukeForSequenceClassification,
    Reads.WORDS: LukeForTokenClassification,
}
_OTHER_CLASSES: dict[Task, Any] = {Task.QA: LukeForQuestionAnswering, Task.CHOICE: LukeForMultipleChoice}
"""Those that read the same states, and take or give them in another form."""
SPAN_INPUTS = ("entity_start_positions", "entity_end_positions")


@dataclass(frozen=True, slots=True, eq=False)
class PaddedWindows:
    """b windows padded to t tokens and e entities; e is 0 where no window has entities."""

    input_ids: Indices
    """(b, t)"""
    attention_mask: Indices
    """(b, t)"""
    entity_ids: Indices
    """(b, e); padding has the id 0, which the mask hides whatever it stands for."""
    entity_attention_mask: Indices
    """(b, e)"""
    entity_position_ids: Indices
    """(b, e, max_mention_length), -1 where a mention is shorter."""
    entity_start_positions: Indices
    """(b, e) first token of each span."""
    entity_end_positions: Indices
    """(b, e) last token of each span, also beyond max_mention_length."""


class TransformersEngine(BatchedEngine):
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
        config = LukeConfig.from_dict(dict(checkpoint.config))
        reads = {task.reads for task in tasks}
        encoder = _encoder(config, checkpoint, pooled=Reads.FIRST_WORD in reads)
        super().__init__(checkpoint, tasks, device, max_tokens)
        self._half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
        self._encoder: Any = encoder.to(device).eval()
        self._heads: dict[Task, Any] = {
            task: _head(task, config, checkpoint, encoder).to(device).eval() for task in tasks if task.reads.states
        }
        if Reads.CANDIDATES in reads:
            self._entity_head = PredictionHead.of_entities(checkpoint, encoder_tables(checkpoint)[1], device)
        if Reads.GAPS in reads:
            self._masked_heads = MaskedHeads(checkpoint, *encoder_tables(checkpoint), device)

    def _batches(self, tokens: IntArray, entities: IntArray) -> list[IntArray]:
        return length_sorted(tokens, entities, self._max_tokens)

    def _positions(self, tokens: IntArray, entities: IntArray) -> int:
        return int(tokens.max() + entities.max()) * len(tokens)

    @torch.inference_mode()
    def _forward(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        batch = pad(windows, self._pad_id, self._checkpoint.max_mention_length)
        counts = [len(window.entity_ids) for window in windows]
        if task.reads in BY_ENTITY and not any(counts):
            return [self._no_entities(task, window) for window in windows]
        inputs = self._inputs(task, batch)
        with torch.autocast(self._device, self._half, enabled=self._half is not None):
            outputs = self._heads.get(task, self._encoder)(**inputs)
        if task.reads is Reads.CANDIDATES:
            states = _rows(outputs.entity_last_hidden_state, counts)
            return self._entity_head.among_candidates(states, windows)
        if task.reads is Reads.GAPS:
            return self._gap_scores(outputs, windows)
        if task.reads is Reads.JOINT:
            return _joint(outputs, counts, [len(window.token_ids) for window in windows])
        return _answers(task, outputs, counts, [len(window.token_ids) for window in windows])

    def _gap_scores(self, outputs: Any, windows: Sequence[Window]) -> list[FloatArray]:
        tokens: Tensor = outputs.last_hidden_state
        gaps = [
            states[torch.from_numpy(window.gaps.positions).to(states.device)]
            for states, window in zip(tokens, windows, strict=True)
            if window.gaps is not None
        ]
        counts = [len(window.entity_ids) for window in windows]
        entities = _rows(outputs.entity_last_hidden_state, counts) if any(counts) else tokens[:0, 0]
        return self._masked_heads(torch.cat(gaps), entities, windows)

    def _inputs(self, task: Task, batch: PaddedWindows) -> dict[str, Tensor]:
        # Entity inputs of width 0 would be concatenated for nothing; without them LUKE is a plain encoder.
        names = [
            field.name
            for field in fields(batch)
            if not field.name.startswith("entity")
            or (batch.entity_ids.shape[1] and (task.reads is Reads.SPANS or field.name not in SPAN_INPUTS))
        ]
        inputs = {name: torch.from_numpy(getattr(batch, name)).to(self._device) for name in names}
        if task == Task.CHOICE:  # the class wants (questions, choices, …)
            return {name: tensor.unsqueeze(0) for name, tensor in inputs.items()}
        return inputs


def _encoder(config: LukeConfig, checkpoint: Checkpoint, *, pooled: bool) -> nn.Module:
    # On the meta device nothing is allocated or initialised only to be replaced.
    with torch.device("meta"):
        encoder: nn.Module = LukeModel(config, add_pooling_layer=pooled)
    state = encoder_state(checkpoint)
    if pooled:
        state["pooler.dense.weight"], state["pooler.dense.bias"] = pooler_state(checkpoint)
    encoder.load_state_dict(state, assign=True)
    return encoder


def _head(task: Task, config: LukeConfig, checkpoint: Checkpoint, encoder: nn.Module) -> nn.Module:
    weight, bias = head_state(checkpoint, task.head)
    head_config = LukeConfig.from_dict({**config.to_dict(), "num_labels": len(weight), "id2label": None})
    with torch.device("meta"):
        model = _OTHER_CLASSES.get(task, HEAD_CLASSES[task.reads])(head_config)
    model.luke = encoder
    # A layer of our own: that of the class has no bias for pairs, and somebody else's head may.
    layer = nn.Linear(weight.shape[1], len(weight), bias=bias is not None, device="meta")
    layer.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias}, assign=True)
    setattr(model, "qa_outputs" if task == Task.QA else "classifier", layer)
    return model


def _answers(task: Task, outputs: Any, entities: Sequence[int], tokens: Sequence[int]) -> list[FloatArray]:
    """What a class of transformers says to each window, from its padded outputs."""
    if task == Task.CHOICE:
        return list(as_array(outputs.logits.squeeze(0)[:, None]))
    if task == Task.QA:
        return _cut(torch.stack([outputs.start_logits, outputs.end_logits], dim=-1), tokens)
    match task.reads:
        case Reads.ENTITY | Reads.PAIR | Reads.FIRST_WORD:
            return list(as_array(outputs.logits))
        case Reads.SPANS:
            return _cut(outputs.logits, entities)
        case Reads.WORDS:
            return _cut(outputs.logits, tokens)
        case Reads.ENTITY_STATES:
            return _cut(outputs.entity_last_hidden_state, entities)
        case Reads.WORD_STATES:
            return _cut(outputs.last_hidden_state, tokens)
        case Reads.BOUNDS | Reads.CANDIDATES | Reads.GAPS | Reads.JOINT:
            raise AssertionError(f"{task} is answered elsewhere")


def _joint(outputs: Any, entities: Sequence[int], tokens: Sequence[int]) -> list[FloatArray]:
    """The states of each window's entities, and the mean of its words between `<s>` and `</s>`."""
    words: Tensor = outputs.last_hidden_state
    means = as_array(torch.stack([row[1 : max(n - 1, 2)].mean(0) for row, n in zip(words, tokens, strict=True)]))
    if not any(entities):
        return list(means[:, None])
    states = _cut(outputs.entity_last_hidden_state, entities)
    return [np.vstack(both) for both in zip(states, means, strict=True)]


def _rows(padded: Tensor, lengths: Sequence[int]) -> Tensor:
    """(sum of n, d) of a (b, n, d) tensor, without its padding."""
    return torch.cat([row[:length] for row, length in zip(padded, lengths, strict=True)])


def _cut(padded: Tensor, lengths: Sequence[int]) -> list[FloatArray]:
    """The rows of a (b, n, d) tensor without their padding."""
    return [row[:length] for row, length in zip(as_array(padded), lengths, strict=True)]


def pad(windows: Sequence[Window], pad_id: int, max_mention_length: int) -> PaddedWindows:
    """Pad `windows`, of which there is at least one."""
    rows = len(windows)
    tokens = max(len(window.token_ids) for window in windows)
    entities = max(len(window.entity_ids) for window in windows)
    batch = PaddedWindows(
        input_ids=np.full((rows, tokens), pad_id, np.int64),
        attention_mask=np.zeros((rows, tokens), np.int64),
        entity_ids=np.zeros((rows, entities), np.int64),
        entity_attention_mask=np.zeros((rows, entities), np.int64),
        entity_position_ids=np.full((rows, entities, max_mention_length), -1, np.int64),
        entity_start_positions=np.zeros((rows, entities), np.int64),
        entity_end_positions=np.zeros((rows, entities), np.int64),
    )
    for row, window in enumerate(windows):
        length, count = len(window.token_ids), len(window.entity_ids)
        batch.input_ids[row, :length] = window.token_ids
        batch.attention_mask[row, :length] = 1
        batch.entity_ids[row, :count] = window.entity_ids
        batch.entity_attention_mask[row, :count] = 1
        batch.entity_position_ids[row, :count] = padded_positions(window.entity_spans, max_mention_length)
        batch.entity_start_positions[row, :count] = window.entity_spans[:, 0]
        batch.entity_end_positions[row, :count] = window.entity_spans[:, 1] - 1
    return batch
