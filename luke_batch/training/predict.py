"""Predictions for the dev figures: as inference makes them for whole sentences, without its machinery."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from luke_batch.arrays import FloatArray, IntArray
from luke_batch.model.device import multiplies_bfloat16
from luke_batch.model.windows import InputBuilder, chunks
from luke_batch.training.data import Row
from luke_batch.training.model import MultiTaskModel, collate
from luke_batch.training.sampling import Example, cut_into_batches
from luke_batch.training.tasks import Proposer

Mention = tuple[int, int, str]
"""Start, end, label."""

_NOTHING = np.zeros(0, np.int32)
_BATCH_TOKENS = 3072


def logits_of(model: MultiTaskModel, name: str, examples: Sequence[Example], pad_id: int) -> list[FloatArray]:
    """The logits of each example, in order: (entities, labels), for pairs (labels,)."""
    model.eval()
    spec = model.specs[name]
    found: dict[int, FloatArray] = {}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16()):
        for batch in cut_into_batches(examples, _BATCH_TOKENS):
            inputs, _, _ = collate(batch, pad_id, spec.multi_label)
            logits = model(name, inputs).float().numpy()
            for example, values in zip(batch, logits, strict=True):
                found[id(example)] = values if spec.feature == "pair" else values[: example.entities]
    return [found[id(example)] for example in examples]


def mentions(
    model: MultiTaskModel,
    rows: Iterable[Row],
    builder: InputBuilder,
    propose: Proposer,
    window_spans: int = 128,
) -> list[list[Mention]]:
    """The mentions of each row by its ner head: all proposed spans, flat decoding."""
    examples: list[Example] = []
    owners: list[tuple[int, IntArray]] = []
    rows = list(rows)
    for number, row in enumerate(rows):
        spans = propose(row)
        tokens = builder.tokenize(row.text, spans)
        if len(tokens.ids) + 2 > builder.max_tokens:
            continue
        for chunk in chunks(len(spans), window_spans):
            which = np.arange(len(spans), dtype=np.int32)[chunk]
            window = builder.mention_window(tokens, _NOTHING, _NOTHING, which)
            examples.append(Example(window, np.zeros(len(which), np.int64)))
            owners.append((number, spans[which]))
    gathered: dict[int, list[tuple[IntArray, FloatArray]]] = {}
    logits = logits_of(model, "ner", examples, builder.tokenizer.pad_id)
    for (number, spans), values in zip(owners, logits, strict=True):
        gathered.setdefault(number, []).append((spans, values))
    labels = model.specs["ner"].labels
    found: list[list[Mention]] = []
    for number in range(len(rows)):
        parts = gathered.get(number, [])
        found.append(
            flat(np.concatenate([spans for spans, _ in parts]), np.concatenate([v for _, v in parts]), labels)
            if parts
            else []
        )
    return found


def flat(spans: IntArray, logits: FloatArray, labels: Sequence[str]) -> list[Mention]:
    """LUKE's decoding: spans that are something, by best logit, each unless it overlaps an accepted one."""
    best = logits.argmax(1)
    order = np.argsort(-logits.max(1), kind="stable")
    accepted: list[Mention] = []
    for place in order[best[order] != 0].tolist():
        start, end = (int(bound) for bound in spans[place])
        if all(end <= first or last <= start for first, last, _ in accepted):
            accepted.append((start, end, labels[int(best[place])]))
    return sorted(accepted)


def f1(gold: Sequence[set[Mention]], predicted: Sequence[set[Mention]]) -> tuple[float, float, float]:
    """Micro precision, recall and F1 of exact matches, in percent."""
    right = sum(len(one & other) for one, other in zip(gold, predicted, strict=True))
    precision = 100 * right / max(1, sum(map(len, predicted)))
    recall = 100 * right / max(1, sum(map(len, gold)))
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def best_threshold(scores: FloatArray, gold: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The score threshold of the best micro F1, and precision, recall and F1 there, in percent.

    `scores` are probabilities (pairs, labels); the threshold is chosen among the scores' own percentiles.
    """
    flat_scores, flat_gold = scores.ravel(), gold.ravel()
    order = np.argsort(-flat_scores, kind="stable")
    right = np.cumsum(flat_gold[order])
    count = np.arange(1, len(order) + 1)
    precision = right / count
    recall = right / max(1, flat_gold.sum())
    both = 2 * precision * recall / np.maximum(1e-9, precision + recall)
    # Ties share one threshold: only the last of equal scores is a possible cut.
    last = np.append(np.diff(flat_scores[order]) != 0, True)
    place = int(np.argmax(np.where(last, both, -1)))
    after = flat_scores[order[place + 1]] if place + 1 < len(order) else 0.0
    threshold = float((flat_scores[order[place]] + after) / 2)
    figures = [float(100 * values[place]) for values in (precision, recall, both)]
    return threshold, figures[0], figures[1], figures[2]
