"""Outputs of transformers' own classes for one window at a time, and how near to them an engine must be."""

from typing import Any

import numpy as np
import torch

from luke_batch.base.arrays import FloatArray
from luke_batch.model.inputs.windows import Gaps, Window
from luke_batch.model.task import Task

ENTITY_TASKS = (Task.NER, Task.MENTIONS, Task.LINKS)
FORWARD_TASKS = (
    *(Task.NER, Task.TYPES, Task.RELATIONS, Task.LINKS, Task.CLOZE, Task.SEQUENCE, Task.TOKENS),
    *(Task.QA, Task.CHOICE, Task.MENTIONS, Task.TEXT),
)
"""Those of LUKE itself: the span scorer is no part of transformers."""


def reference(model: torch.nn.Module, task: Task, window: Window) -> FloatArray:
    """What transformers' class gives for one window alone, its inputs built here and not by the engine."""
    words, spans = window.token_ids.tolist(), window.entity_spans.tolist()
    fields = {"input_ids": words, "attention_mask": [1] * len(words)}
    if spans:
        positions = [[*range(start, end), *[-1] * 30][:30] for start, end in spans]
        fields |= {"entity_ids": window.entity_ids.tolist(), "entity_attention_mask": [1] * len(spans)}
        fields |= {"entity_position_ids": positions}
    if task == Task.NER:
        fields |= {"entity_start_positions": [start for start, _ in spans]}
        fields |= {"entity_end_positions": [end - 1 for _, end in spans]}
    inputs = {name: torch.tensor([value]) for name, value in fields.items()}
    if task == Task.CHOICE:
        inputs = {name: tensor.unsqueeze(1) for name, tensor in inputs.items()}
    with torch.inference_mode():
        output = model(**inputs)
    if task == Task.QA:
        return torch.stack([output.start_logits[0], output.end_logits[0]], 1).numpy()
    if task == Task.LINKS:
        assert window.candidates is not None
        logits = np.take_along_axis(output.entity_logits[0].numpy(), np.maximum(window.candidates, 0), axis=1)
        return np.where(window.candidates >= 0, logits, np.float32(-np.inf))
    if task == Task.CLOZE:
        return gap_scores(output, window)
    if task == Task.TEXT:
        return output.last_hidden_state[0].numpy()
    if task == Task.MENTIONS:
        return output.entity_last_hidden_state[0].numpy()
    return output.logits[0].numpy()


def gap_scores(output: Any, window: Window) -> FloatArray:
    """Task.CLOZE from the logits of LukeForMaskedLM, whole rows of them, in float64."""
    gaps = window.gaps
    assert gaps is not None
    rows: list[FloatArray] = []
    words = output.logits[0, torch.from_numpy(gaps.positions)]
    entities = output.entity_logits[0] if len(window.entity_ids) else words[:0]
    for side, logits in enumerate((words, entities)):
        for row in logits.double().log_softmax(-1).numpy():
            if gaps.candidates is not None:
                ids = gaps.candidates[len(rows)]
                rows.append(np.where(ids >= 0, row[ids], -np.inf))
                continue
            row[gaps.never[side]] = -np.inf
            ids = np.argsort(-row, kind="stable")[: gaps.best]
            found = np.stack([np.where(np.isfinite(row[ids]), ids, -1), row[ids]], 1)
            rows.append(np.concatenate([found, np.full((gaps.best - len(ids), 2), [-1, -np.inf])]))
    return np.stack(rows).astype(np.float32)


def gaps(random: np.random.Generator, length: int, entities: int, vocabularies: tuple[int, int]) -> Gaps:
    """Up to four gaps of a window, asked for candidates or for the best that are not left out."""
    words = int(random.integers(0 if entities else 1, min(4, length) + 1))
    positions = random.choice(length, words, replace=False).astype(np.int32)
    if random.random() < 0.5:
        size, limits = int(random.integers(1, 9)), [vocabularies[0]] * words + [vocabularies[1]] * entities
        candidates = np.stack([random.integers(-1, limit, size) for limit in limits])
        return Gaps(positions, candidates.astype(np.int32))
    never = tuple(random.integers(0, limit, 3).astype(np.int32) for limit in vocabularies)
    return Gaps(positions, best=int(random.integers(1, 12)), never=(never[0], never[1]))


def assert_close(found: FloatArray, wanted: FloatArray) -> None:
    """The tolerance that the project promises against transformers.

    Arrays of three dimensions hold ids and scores: ids of equal scores may change places.
    """
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    if found.ndim == 3:
        assert_close(found[..., 1], wanted[..., 1])
        scores = np.nan_to_num(wanted[..., 1], neginf=-1e9)
        steps = np.abs(np.diff(scores, axis=1, prepend=np.inf, append=np.nan)) > 1e-3
        clear = steps[:, :-1] & steps[:, 1:]
        assert np.array_equal(found[..., 0][clear], wanted[..., 0][clear])
        return
    real = np.isfinite(wanted)
    assert np.array_equal(np.isfinite(found), real)
    rms = float(np.sqrt(np.mean(np.square(wanted[real])))) if real.any() else 0.0
    assert np.abs(found[real] - wanted[real]).max(initial=0) <= 1e-4 * max(1.0, rms)
