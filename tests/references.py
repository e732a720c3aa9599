"""Outputs of transformers' own classes for one window at a time, and how near to them an engine must be."""

import numpy as np
import torch

from luke_batch.arrays import FloatArray
from luke_batch.model.engine import Task
from luke_batch.model.windows import Window

ENTITY_TASKS = (Task.SPANS, Task.MENTIONS, Task.LINKS)
FORWARD_TASKS = tuple(task for task in Task if task is not Task.BOUNDS)
"""Those of LUKE itself: the span scorer is no part of transformers."""


def reference(model: torch.nn.Module, task: Task, window: Window) -> FloatArray:
    """What transformers' class gives for one window alone, its inputs built here and not by the engine."""
    words, spans = window.token_ids.tolist(), window.entity_spans.tolist()
    fields = {"input_ids": words, "attention_mask": [1] * len(words)}
    if spans:
        positions = [[*range(start, end), *[-1] * 30][:30] for start, end in spans]
        fields |= {"entity_ids": window.entity_ids.tolist(), "entity_attention_mask": [1] * len(spans)}
        fields |= {"entity_position_ids": positions}
    if task is Task.SPANS:
        fields |= {"entity_start_positions": [start for start, _ in spans]}
        fields |= {"entity_end_positions": [end - 1 for _, end in spans]}
    inputs = {name: torch.tensor([value]) for name, value in fields.items()}
    if task is Task.CHOICE:
        inputs = {name: tensor.unsqueeze(1) for name, tensor in inputs.items()}
    with torch.inference_mode():
        output = model(**inputs)
    if task is Task.ANSWERS:
        return torch.stack([output.start_logits[0], output.end_logits[0]], 1).numpy()
    if task is Task.LINKS:
        assert window.candidates is not None
        logits = np.take_along_axis(output.entity_logits[0].numpy(), np.maximum(window.candidates, 0), axis=1)
        return np.where(window.candidates >= 0, logits, np.float32(-np.inf))
    if task is Task.TEXT:
        return output.last_hidden_state[0].numpy()
    if task is Task.MENTIONS:
        return output.entity_last_hidden_state[0].numpy()
    return output.logits[0].numpy()


def assert_close(found: FloatArray, wanted: FloatArray) -> None:
    """The tolerance that the project promises against transformers."""
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    real = np.isfinite(wanted)
    assert np.array_equal(np.isfinite(found), real)
    rms = float(np.sqrt(np.mean(np.square(wanted[real])))) if real.any() else 0.0
    assert np.abs(found[real] - wanted[real]).max(initial=0) <= 1e-4 * max(1.0, rms)
