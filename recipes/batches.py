"""How the training data becomes batches: candidate spans, the share of each head, the size of a step."""

from __future__ import annotations

from collections import Counter

from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.batches import Batches, NumberedExamples, PooledBatches
from luke_batch.training.examples import (
    MarkedExamples,
    NerExamples,
    SpanProposer,
    SpanSampling,
    mention_places,
    proposer,
)
from luke_batch.training.model import HeadSpec
from recipes.embedded_data import NER_LABELS, TrainingRows
from recipes.identities import IdentityBatches, NameExamples

MAX_WORDS = 8
# Steps of each task, and so their compute: all tasks' batches have the same number of tokens.
SHARES = {"ner": 0.28, "types": 0.04, "relations": 0.18, "names": 0.34, "identity": 0.16}
BATCH_TOKENS = 1536
POOL = 2048
# Every span shown costs as much as a word; more sentences teach more than more spans of each.
SAMPLING = SpanSampling(fewest=4, per_word=0.35, most=20, whole_share=0.75, late_whole_share=0.75)
UNRELATED_WEIGHT = 0.35
"""How often a pair without relations is drawn against one with some: there are six times as many."""


propose = proposer(MAX_WORDS)


def sources(
    rows: TrainingRows,
    specs: dict[str, HeadSpec],
    builder: InputBuilder,
    skipped: Counter[str],
    likely: SpanProposer | None = None,
) -> dict[str, Batches]:
    """Batches for each head; of ner and names rows are drawn by their weights, of pairs by whether they have any."""
    mentions = mention_places(rows.types, together=False)
    names = NameExamples(rows.identities, builder, skipped)
    ner = NerExamples(rows.ner, NER_LABELS, builder, propose, skipped, max_tokens=128, sampling=SAMPLING, likely=likely)
    types = MarkedExamples("types", mentions, specs["types"].labels, builder, skipped, multi_label=False)
    relations = MarkedExamples("relations", rows.pairs, specs["relations"].labels, builder, skipped, multi_label=True)
    drawn: list[tuple[NumberedExamples, list[float] | None]] = [
        (ner, rows.ner_weights),
        (types, None),
        (relations, [1.0 if pair.labels else UNRELATED_WEIGHT for pair in rows.pairs]),
        (names, names.weights),
    ]
    made: dict[str, Batches] = {
        examples.name: PooledBatches(examples, BATCH_TOKENS, POOL, seed, weights=weights)
        for seed, (examples, weights) in enumerate(drawn, 1)
    }
    made["identity"] = IdentityBatches(rows.identities, builder, skipped, tokens=BATCH_TOKENS, seed=9)
    return made
