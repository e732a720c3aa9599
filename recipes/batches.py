"""How the training data becomes batches: candidate spans, the share of each head, the size of a step."""

from __future__ import annotations

from collections import Counter

from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.batches import Batches, NumberedExamples, PooledBatches
from luke_batch.training.examples import NerExamples, SpanProposer, SpanSampling, proposer
from luke_batch.training.joint import JointTypes
from luke_batch.training.model import HeadSpec
from recipes.embedded_data import NER_LABELS, TrainingRows
from recipes.identities import IdentityBatches, NameExamples
from recipes.joint_rows import FEWREL, RelationsOfBoth, Shown
from recipes.letters import in_other_letters

MAX_WORDS = 8
# Steps of each task, and so their compute: all tasks' batches have the same number of tokens.
SHARES = {"ner": 0.48, "types": 0.07, "relations": 0.24, "names": 0.11, "identity": 0.10}
BATCH_TOKENS = 1536
POOL = 2048
# Every span shown costs as much as a word; more sentences teach more than more spans of each.
SAMPLING = SpanSampling(fewest=4, per_word=0.35, most=20, whole_share=0.75, late_whole_share=0.75)
FEWREL_WEIGHT = 0.7
"""How often a sentence with one known pair is drawn against one of Re-DocRED, all of whose pairs are known."""


propose = proposer(MAX_WORDS)


def sources(
    rows: TrainingRows,
    specs: dict[str, HeadSpec],
    builder: InputBuilder,
    skipped: Counter[str],
    likely: SpanProposer | None = None,
) -> dict[str, Batches]:
    """Batches for each head; of ner, names and relations rows are drawn by their weights."""
    names = NameExamples(rows.identities, builder, skipped)
    ner = NerExamples(
        rows.ner,
        NER_LABELS,
        builder,
        propose,
        skipped,
        max_tokens=128,
        sampling=SAMPLING,
        likely=likely,
        change=in_other_letters,
    )
    types = JointTypes("types", rows.types, specs["types"].labels, builder, skipped, change=in_other_letters)
    labels = specs["relations"].labels
    relations = RelationsOfBoth(
        "relations", rows.relations, labels, builder, skipped, change=Shown(rows.relations), of_fewrel=rows.of_fewrel
    )
    drawn: list[tuple[NumberedExamples, list[float] | None]] = [
        (ner, rows.ner_weights),
        (types, None),
        (relations, [FEWREL_WEIGHT if row.source == FEWREL else 1.0 for row in rows.relations]),
        (names, names.weights),
    ]
    made: dict[str, Batches] = {
        examples.name: PooledBatches(examples, BATCH_TOKENS, POOL, seed, weights=weights)
        for seed, (examples, weights) in enumerate(drawn, 1)
    }
    made["identity"] = IdentityBatches(rows.identities, builder, skipped, tokens=BATCH_TOKENS, seed=9)
    return made
