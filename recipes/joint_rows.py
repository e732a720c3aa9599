"""What the joint head of relations learns from: Re-DocRED's sentences, and FewRel's with the other names in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.random import Generator
from numpy.typing import NDArray

from luke_batch.annotate.annotator import Annotator
from luke_batch.config import JobConfig
from luke_batch.training.batches import BoolArray
from luke_batch.training.corpus import GoldEntity, Row
from luke_batch.training.joint import JointRelations
from recipes.letters import in_other_letters

FEWREL = "fewrel_wiki"
_GIVEN = 2
"""Entities of a row of FewRel that the data brings; those behind them were found."""
_SYMMETRIC = frozenset({"spouse", "sibling"})
_UNNAMED = frozenset({"TIME", "NUM", "MISC"})
"""Mentions that Re-DocRED has and the `ner` head does not find."""
_FEWER = 0.5
_BESIDE = 0.25
_MOST_CHARACTERS = 360
"""Of two sentences side by side, so that they fit into a window."""


def found_mentions(rows: Sequence[Row], model: str) -> list[list[tuple[int, int, str]]]:
    """The mentions (start, end, label) that a model's `ner` finds in each row."""
    job = JobConfig.model_validate({"models": {"main": {"path": model}}, "heads": [{"head": "ner"}]})
    table = pa.table({"id": [row.id for row in rows], "text": [row.text for row in rows]})
    found = Annotator.from_config(job).annotate(table)["mentions"].to_pylist()
    return [[(item["start"], item["end"], item["label"]) for item in mentions or []] for mentions in found]


def with_mentions(row: Row, mentions: Sequence[tuple[int, int, str]]) -> Row:
    """The row with those mentions besides that overlap none of its own."""
    others = [GoldEntity(*mention) for mention in mentions]
    apart = [item for item in others if all(item.end <= own.start or own.end <= item.start for own in row.entities)]
    return replace(row, entities=(*row.entities, *apart))


class Shown:
    """Rows as a batch shows them: half of the time with the given pair alone, or with names alone; some of Re-DocRED's
    beside another of its sentences, between whose mentions nothing holds although they are of the right kinds.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        """`rows`: all of them."""
        self._others = [row for row in rows if row.source != FEWREL]

    def __call__(self, row: Row, rng: Generator) -> Row:
        """The row as it is shown this time."""
        if rng.random() < _FEWER:
            named = (
                [place < _GIVEN for place in range(len(row.entities))]
                if row.source == FEWREL
                else [item.label not in _UNNAMED for item in row.entities]
            )
            row = _only(row, np.array(named, bool))
        if row.source != FEWREL and self._others and rng.random() < _BESIDE:
            row = beside(row, self._others[int(rng.integers(len(self._others)))])
        return in_other_letters(row, rng)


def beside(row: Row, other: Row) -> Row:
    """Both sentences in one text, with the mentions and relations of each; `row` alone where they are too long, or tell
    of the same entity, or are of one document: then something may hold between them.
    """
    names = {row.text[item.start : item.end].casefold() for item in row.entities}
    shared = any(other.text[item.start : item.end].casefold() in names for item in other.entities)
    shift = len(row.text) + 1
    if shared or row.doc_id == other.doc_id or shift + len(other.text) > _MOST_CHARACTERS:
        return row
    count = len(row.entities)
    entities = (replace(item, start=item.start + shift, end=item.end + shift) for item in other.entities)
    relations = (replace(item, head=item.head + count, tail=item.tail + count) for item in other.relations)
    return replace(
        row,
        text=f"{row.text} {other.text}",
        entities=(*row.entities, *entities),
        relations=(*row.relations, *relations),
    )


def _only(row: Row, kept: BoolArray) -> Row:
    places = np.cumsum(kept) - 1
    relations = tuple(
        replace(item, head=int(places[item.head]), tail=int(places[item.tail]))
        for item in row.relations
        if kept[item.head] and kept[item.tail]
    )
    return replace(row, entities=tuple(np.array(row.entities, object)[kept].tolist()), relations=relations)


class RelationsOfBoth(JointRelations):
    """FewRel tells one relation of one pair, and which it is among its own sixteen.

    Of other pairs with its head or its tail, and of the way back, that relation does not hold.
    """

    def __init__(self, *arguments: Any, of_fewrel: frozenset[str], **options: Any) -> None:
        """`of_fewrel`: the labels that FewRel has; the rest as for JointExamples."""
        super().__init__(*arguments, **options)
        self._of_fewrel = of_fewrel

    def known(self, row: Row, found: NDArray[np.float32]) -> BoolArray:
        """See JointRelations."""
        if row.source != FEWREL:
            return super().known(row, found)
        told = np.zeros(found.shape, bool)
        own = [number for label, number in self._numbers.items() if label in self._of_fewrel]
        names = {number: label for label, number in self._numbers.items()}
        for head, tail, label in np.argwhere(found > 0).tolist():
            told[head, :, label] = told[:, tail, label] = True
            told[tail, head, label] = names[label] not in _SYMMETRIC
            told[head, tail, own] = True
        return told
