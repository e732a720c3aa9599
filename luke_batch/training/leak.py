"""Texts of DEV that TRAIN shows as well: a model knows them by heart, and its dev scores are too good.

Texts are compared in Unicode's form NFC, with every run of whitespace as one blank and none at the ends.
"""

from __future__ import annotations

import unicodedata

from luke_batch.base.errors import InputError
from luke_batch.training.corpus import TrainingCorpus

MOST = 0.01
"""The share of DEV that may be in TRAIN: short sentences recur by chance."""


def normalised(text: str) -> str:
    """What is compared."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def shared_texts(trained: TrainingCorpus, tested: TrainingCorpus) -> int:
    """How many rows of DEV have a text that is in TRAIN."""
    known = {normalised(row.text) for row in trained.rows}
    return sum(normalised(row.text) in known for row in tested.rows)


def note_of(shared: int, tested: TrainingCorpus) -> str:
    """A line for the plan, the card and the command's end."""
    share = 100 * shared / len(tested.rows)
    return f"DEV: {shared} of {len(tested.rows)} texts ({share:.1f}%) are in TRAIN as well"


def refuse_leak(trained: TrainingCorpus, tested: TrainingCorpus) -> None:
    """Raise InputError where more than MOST of DEV is in TRAIN."""
    shared = shared_texts(trained, tested)
    if shared > MOST * len(tested.rows):
        raise InputError(
            f"{note_of(shared, tested)}, whatever their whitespace, so dev scores would be too good; take them out of"
            " TRAIN or DEV, or accept it with --allow-overlap"
        )
