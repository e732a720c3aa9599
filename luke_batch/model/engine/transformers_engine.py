"""`engine: transformers`: forward passes of transformers' own classes, the reference for every other engine.

Heads of one checkpoint share one encoder. Batches are length-sorted and padded. In bfloat16 only the products
are (torch's autocast); the weights, the norms and what comes out stay float32.
"""

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

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
from luke_batch.model.engine.batched_engine import BY_ENTITY, BatchedEngine, as_array
from luke_batch.model.engine.batching import length_sorted
from luke_batch.model.engine.entity_head import EntityHead
from luke_batch.model.engine.masked_heads import MaskedHeads
from luke_batch.model.engine.padding import PaddedWindows, pad
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.weights import encoder_state, encoder_tables, head_state, pooler_state
from luke_batch.model.inputs.windows import Window
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
_OTHER_CLASSES: dict[Task, Any] = {Task.ANSWERS: LukeForQuestionAnswering, Task.CHOICE: LukeForMultipleChoice}
"""Those that read the same states, and take or give them in another form."""
SPAN_INPUTS = ("entity_start_positions", "entity_end_positions")


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
        encoder = _encoder(config, checkpoint, pooled=any(task.reads is Reads.FIRST_WORD for task in tasks))
        super().__init__(checkpoint, tasks, device, max_tokens)
        self._half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
        self._encoder: Any = encoder.to(device).eval()
        self._heads: dict[Task, Any] = {
            task: _head(task, config, checkpoint, encoder).to(device).eval() for task in tasks if task.reads.states
        }
        if Task.LINKS in tasks:
            self._entity_head = EntityHead(checkpoint, encoder_tables(checkpoint)[1], device)
        if Task.CLOZE in tasks:
            self._masked_heads = MaskedHeads(checkpoint, *encoder_tables(checkpoint), device)

    def _batches(self, words: IntArray, entities: IntArray) -> list[IntArray]:
        return length_sorted(words, entities, self._max_tokens)

    def _positions(self, words: IntArray, entities: IntArray) -> int:
        return int(words.max() + entities.max()) * len(words)

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
            return self._entity_head(_rows(outputs.entity_last_hidden_state, counts), windows)
        if task.reads is Reads.GAPS:
            return self._gap_scores(outputs, windows)
        return _answers(task, outputs, counts, [len(window.token_ids) for window in windows])

    def _gap_scores(self, outputs: Any, windows: Sequence[Window]) -> list[FloatArray]:
        words: Tensor = outputs.last_hidden_state
        gaps = [
            states[torch.from_numpy(window.gaps.positions).to(states.device)]
            for states, window in zip(words, windows, strict=True)
            if window.gaps is not None
        ]
        counts = [len(window.entity_ids) for window in windows]
        entities = _rows(outputs.entity_last_hidden_state, counts) if any(counts) else words[:0, 0]
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
    state = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    layer = model.qa_outputs if task == Task.ANSWERS else model.classifier
    layer.load_state_dict(state, assign=True)
    return model


def _answers(task: Task, outputs: Any, entities: Sequence[int], words: Sequence[int]) -> list[FloatArray]:
    """What a class of transformers says to each window, from its padded outputs."""
    if task == Task.CHOICE:
        return list(as_array(outputs.logits.squeeze(0)[:, None]))
    if task == Task.ANSWERS:
        return _cut(torch.stack([outputs.start_logits, outputs.end_logits], dim=-1), words)
    match task.reads:
        case Reads.ENTITY | Reads.PAIR | Reads.FIRST_WORD:
            return list(as_array(outputs.logits))
        case Reads.SPANS:
            return _cut(outputs.logits, entities)
        case Reads.WORDS:
            return _cut(outputs.logits, words)
        case Reads.ENTITY_STATES:
            return _cut(outputs.entity_last_hidden_state, entities)
        case Reads.WORD_STATES:
            return _cut(outputs.last_hidden_state, words)
        case Reads.BOUNDS | Reads.CANDIDATES | Reads.GAPS:
            raise AssertionError(f"{task} is answered by heads of our own")


def _rows(padded: Tensor, lengths: Sequence[int]) -> Tensor:
    """(sum of n, d) of a (b, n, d) tensor, without its padding."""
    return torch.cat([row[:length] for row, length in zip(padded, lengths, strict=True)])


def _cut(padded: Tensor, lengths: Sequence[int]) -> list[FloatArray]:
    """The rows of a (b, n, d) tensor without their padding."""
    return [row[:length] for row, length in zip(as_array(padded), lengths, strict=True)]
