"""Predictions for the dev figures: as inference makes them for whole sentences, without its machinery."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.model.engine.device import multiplies_bfloat16
from luke_batch.model.inputs.windows import InputBuilder, chunks
from luke_batch.training.data import Row
from luke_batch.training.model import MultiTaskModel, collate
from luke_batch.training.sampling import Example, cut_into_batches
from luke_batch.training.tasks import Proposer

_NOTHING = np.zeros(0, np.int32)
_BATCH_TOKENS = 3072


def logits_of(model: MultiTaskModel, name: str, examples: Sequence[Example], pad_id: int) -> list[FloatArray]:
    """The logits of each example, in order: (entities, labels), for pairs (labels,)."""
    model.eval()
    spec = model.specs[name]
    device = next(model.parameters()).device
    bfloat16 = device.type == "cpu" and multiplies_bfloat16()
    found: dict[int, FloatArray] = {}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        for batch in cut_into_batches(examples, _BATCH_TOKENS):
            inputs, _, _ = collate(batch, pad_id, spec.multi_label)
            logits = model(name, inputs.to(str(device))).float().cpu().numpy()
            for example, values in zip(batch, logits, strict=True):
                found[id(example)] = values if spec.feature == "pair" else values[: example.entities]
    return [found[id(example)] for example in examples]


def span_logits(
    model: MultiTaskModel, rows: Sequence[Row], builder: InputBuilder, propose: Proposer
) -> list[tuple[IntArray, FloatArray]]:
    """For each row the spans that its ner head can read, (n, 2), and their logits, (n, labels).

    Windows are those of inference on a text that is one sentence; a row too long for one has no spans.
    """
    examples: list[Example] = []
    owners: list[tuple[int, IntArray]] = []
    for number, row in enumerate(rows):
        spans = propose(row)
        tokens = builder.tokenize(row.text, spans)
        if len(tokens.ids) + 2 > builder.max_tokens:
            continue
        lengths = tokens.spans[:, 1] - tokens.spans[:, 0]
        readable = (lengths > 0) & (lengths <= builder.tokenizer.max_mention_length)
        usable = np.flatnonzero(readable).astype(np.int32)
        for chunk in chunks(len(usable)):
            window = builder.mention_window(tokens, _NOTHING, _NOTHING, usable[chunk])
            examples.append(Example(window, np.zeros(len(usable[chunk]), np.int64)))
            owners.append((number, spans[usable[chunk]]))
    nothing = np.zeros((0, 2), np.int32), np.zeros((0, len(model.specs["ner"].labels)), np.float32)
    gathered = [[nothing] for _ in rows]
    logits = logits_of(model, "ner", examples, builder.tokenizer.pad_id)
    for (number, spans), values in zip(owners, logits, strict=True):
        gathered[number].append((spans, values))
    return [
        (np.concatenate([spans for spans, _ in parts]), np.concatenate([values for _, values in parts]))
        for parts in gathered
    ]


def best_threshold(
    scores: FloatArray, gold: NDArray[np.bool_], *, missed: int = 0, least_precision: float = 0.0
) -> tuple[float, float, float, float]:
    """The score threshold of the best micro F1, and precision, recall and F1 there, in percent.

    Args:
        scores: probabilities (pairs, labels); the threshold lies between two of them.
        gold: (pairs, labels) which labels hold.
        missed: labels that hold elsewhere, out of reach of any threshold.
        least_precision: thresholds with less are left out, unless all have less.
    """
    flat_scores, flat_gold = scores.ravel(), gold.ravel()
    order = np.argsort(-flat_scores, kind="stable")
    right = np.cumsum(flat_gold[order], dtype=np.int64)
    count = np.arange(1, len(order) + 1)
    precision = right / count
    recall = right / max(1, flat_gold.sum() + missed)
    both = 2 * precision * recall / np.maximum(1e-9, precision + recall)
    # Ties share one threshold: only the last of equal scores is a possible cut.
    last = np.append(np.diff(flat_scores[order]) != 0, True)
    if (last & (precision >= least_precision)).any():
        last &= precision >= least_precision
    place = int(np.argmax(np.where(last, both, -1)))
    after = flat_scores[order[place + 1]] if place + 1 < len(order) else 0.0
    threshold = float((flat_scores[order[place]] + after) / 2)
    figures = [float(100 * values[place]) for values in (precision, recall, both)]
    return threshold, figures[0], figures[1], figures[2]
