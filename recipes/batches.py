"""How the training data becomes batches: candidate spans, the share of each head, the size of a step."""

from __future__ import annotations

from collections import Counter

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.text.spans import auto_spans
from luke_batch.text.words import words
from luke_batch.training.data import Row
from luke_batch.training.identities import IdentityBatches, NamesTask
from luke_batch.training.model import HeadSpec
from luke_batch.training.pairs import RelationsTask
from luke_batch.training.sampling import Batches, BatchSource, SpanSampling, Task
from luke_batch.training.tasks import NerTask, Proposer, TypesTask
from recipes.embedded_data import NER_LABELS, TrainingRows

MAX_WORDS = 8
# Steps of each task, and so their compute: all tasks' batches have the same number of tokens.
SHARES = {"ner": 0.28, "types": 0.04, "relations": 0.18, "names": 0.34, "identity": 0.16}
BATCH_TOKENS = 1536
POOL = 2048
# Every span shown costs as much as a word; more sentences teach more than more spans of each.
SAMPLING = SpanSampling(fewest=4, per_word=0.35, most=20, whole_share=0.75, late_whole_share=0.75)
UNRELATED_WEIGHT = 0.35
"""How often a pair without relations is drawn against one with some: there are six times as many."""


def propose(row: Row) -> IntArray:
    """The spans that `spans: auto` proposes, the row taken as one sentence."""
    whole = np.array([[0, len(row.text)]], np.int32)
    return auto_spans(row.text, words(row.text, row.lang), whole, MAX_WORDS)


def sources(
    rows: TrainingRows,
    specs: dict[str, HeadSpec],
    builder: InputBuilder,
    skipped: Counter[str],
    likely: Proposer | None = None,
) -> dict[str, Batches]:
    """Batches for each head."""
    tasks: list[Task] = [
        NerTask(
            rows.ner,
            NER_LABELS,
            builder,
            propose,
            skipped,
            weights=rows.ner_weights,
            max_tokens=128,
            sampling=SAMPLING,
            likely=likely,
        ),
        TypesTask(rows.types, specs["types"].labels, builder, skipped),
        RelationsTask(rows.pairs, specs["relations"].labels, builder, skipped, unrelated_weight=UNRELATED_WEIGHT),
        NamesTask(rows.identities, builder, skipped),
    ]
    made: dict[str, Batches] = {
        task.name: BatchSource(task, BATCH_TOKENS, POOL, seed) for seed, task in enumerate(tasks, 1)
    }
    made["identity"] = IdentityBatches(rows.identities, builder, skipped, tokens=BATCH_TOKENS, seed=9)
    return made
