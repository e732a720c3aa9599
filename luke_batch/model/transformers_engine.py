"""`engine: transformers`: forward passes of transformers' own classes, the reference for every other engine.

Heads of one checkpoint share one encoder. Batches are length-sorted and padded. In bfloat16 only the products
are (torch's autocast); the weights, the norms and what comes out stay float32.
"""

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    LukeConfig,
    LukeForEntityClassification,
    LukeForEntityPairClassification,
    LukeForEntitySpanClassification,
    LukeModel,
)

from luke_batch.arrays import FloatArray, IntArray
from luke_batch.config import Precision
from luke_batch.model.batched_engine import BatchedEngine, as_array
from luke_batch.model.batching import length_sorted
from luke_batch.model.checkpoint import Checkpoint
from luke_batch.model.engine import Task
from luke_batch.model.padding import PaddedWindows, pad
from luke_batch.model.weights import encoder_state, head_state
from luke_batch.model.windows import Window

# transformers' classes carry too few types for strict checking.
HEAD_CLASSES: dict[Task, Any] = {
    Task.SPANS: LukeForEntitySpanClassification,
    Task.ENTITY: LukeForEntityClassification,
    Task.PAIR: LukeForEntityPairClassification,
}
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
        encoder = _encoder(config, checkpoint)
        super().__init__(checkpoint, tasks, device, max_tokens)
        self._bfloat16 = precision == "bfloat16"
        self._encoder: Any = encoder.to(device).eval()
        self._heads: dict[Task, Any] = {
            task: _head(task, config, checkpoint, encoder).to(device).eval()
            for task in HEAD_CLASSES
            if task in tasks
        }

    def _batches(self, words: IntArray, entities: IntArray) -> list[IntArray]:
        return length_sorted(words, entities, self._max_tokens)

    @torch.inference_mode()
    def _forward(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        batch = pad(windows, self._pad_id, self._checkpoint.max_mention_length)
        counts = [len(window.entity_ids) for window in windows]
        if task in (Task.SPANS, Task.MENTIONS) and not any(counts):
            width = len(self._checkpoint.heads[task.head].labels) or self._checkpoint.hidden_size
            return [np.zeros((0, width), np.float32) for _ in windows]
        inputs = self._inputs(batch, spans=task is Task.SPANS)
        with torch.autocast(self._device, torch.bfloat16, enabled=self._bfloat16):
            outputs = self._heads.get(task, self._encoder)(**inputs)
        match task:
            case Task.SPANS:
                return _cut(outputs.logits, counts)
            case Task.ENTITY | Task.PAIR:
                return list(as_array(outputs.logits))
            case Task.MENTIONS:
                return _cut(outputs.entity_last_hidden_state, counts)
            case Task.TEXT:
                return _cut(outputs.last_hidden_state, [len(window.token_ids) for window in windows])
            case Task.BOUNDS:
                raise AssertionError("the span scorer answers it")

    def _inputs(self, batch: PaddedWindows, spans: bool) -> dict[str, Tensor]:
        # Entity inputs of width 0 would be concatenated for nothing; without them LUKE is a plain encoder.
        names = [
            field.name
            for field in fields(batch)
            if not field.name.startswith("entity")
            or (batch.entity_ids.shape[1] and (spans or field.name not in SPAN_INPUTS))
        ]
        return {name: torch.from_numpy(getattr(batch, name)).to(self._device) for name in names}


def _encoder(config: LukeConfig, checkpoint: Checkpoint) -> nn.Module:
    # On the meta device nothing is allocated or initialised only to be replaced.
    with torch.device("meta"):
        encoder: nn.Module = LukeModel(config, add_pooling_layer=False)
    encoder.load_state_dict(encoder_state(checkpoint), assign=True)
    return encoder


def _head(task: Task, config: LukeConfig, checkpoint: Checkpoint, encoder: nn.Module) -> nn.Module:
    weight, bias = head_state(checkpoint, task.head)
    head_config = LukeConfig.from_dict({**config.to_dict(), "num_labels": len(weight), "id2label": None})
    with torch.device("meta"):
        model = HEAD_CLASSES[task](head_config)
    model.luke = encoder
    state = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    model.classifier.load_state_dict(state, assign=True)
    return model


def _cut(padded: Tensor, lengths: Sequence[int]) -> list[FloatArray]:
    """The rows of a (b, n, d) tensor without their padding."""
    return [row[:length] for row, length in zip(as_array(padded), lengths, strict=True)]
