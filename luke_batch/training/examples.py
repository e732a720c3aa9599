"""The rows of a run as numbered examples of each head, and how many batches show them all once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import InputError
from luke_batch.model.files.reading import read_object
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.text.spans import auto_spans
from luke_batch.text.words import words
from luke_batch.training.data import Row
from luke_batch.training.encoder import EncoderConfig
from luke_batch.training.labels import relation_pairs
from luke_batch.training.pairs import RelationsTask
from luke_batch.training.plan import Plan
from luke_batch.training.sampling import CountedTask, SpanSampling, cut_into_batches
from luke_batch.training.settings import HeadName
from luke_batch.training.tasks import NerTask, Proposer, TypesTask

_SAMPLE = 256
"""Examples of a head from which the size of its batches is guessed."""
_LONGEST = 512
"""Tokens of a window at inference."""
_MIDDLE = 0.5
"""The share of the run at which they are drawn."""


def proposer(max_words: int) -> Proposer:
    """The spans that `spans: auto` proposes, a row taken as one sentence."""

    def propose(row: Row) -> IntArray:
        whole = np.array([[0, len(row.text)]], np.int32)
        return auto_spans(row.text, words(row.text, row.lang), whole, max_words)

    return propose


def task_of(
    head: HeadName, plan: Plan, rows: Sequence[Row], builder: InputBuilder, skipped: Counter[str]
) -> CountedTask:
    """The examples of a head; `skipped` counts by reason whenever one cannot be made."""
    config, spec = plan.config, plan.heads[head].spec
    limit = min(config.max_tokens, builder.max_tokens)
    match head:
        case "ner":
            return NerTask(
                rows,
                spec.labels,
                builder,
                proposer(plan.max_words),
                skipped,
                max_tokens=limit,
                sampling=SpanSampling(most=config.negatives),
            )
        case "types":
            return TypesTask(rows, spec.labels, builder, skipped, multi_label=spec.multi_label, max_tokens=limit)
        case "relations":
            return RelationsTask(
                relation_pairs(rows, spec, given=plan.given_pairs),
                spec.labels,
                builder,
                skipped,
                multi_label=spec.multi_label,
                unrelated_weight=config.unrelated_weight,
                max_tokens=limit,
            )


def input_builder(start: Path) -> InputBuilder:
    """For windows as long as inference has them, and as the positions of the base allow."""
    config = read_object(start / "config.json")
    encoder = EncoderConfig.from_luke(config)
    room = encoder.max_position_embeddings - encoder.pad_token_id - 1
    return InputBuilder(Tokenizer.load(start), min(_LONGEST, room))


def batches_of_a_pass(task: CountedTask, skipped: Counter[str], *, tokens: int, seed: int) -> float:
    """About how many batches of `tokens` show every example once.

    `skipped` is what the task counts into. Raises InputError where none of a sample of the examples can be
    made.
    """
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(len(task))[:_SAMPLE].tolist()
    drawn = [example for number in numbers if (example := task.at(number, rng, _MIDDLE)) is not None]
    if not drawn:
        raise InputError(
            f"TRAIN: none of {len(numbers)} examples of the head {task.name} can be used"
            f" ({', '.join(skipped)}); raise"
            " --max-tokens, or cut the texts into sentences"
        )
    shown = len(task) * len(drawn) / len(numbers)
    return shown * len(cut_into_batches(drawn, tokens)) / len(drawn)
