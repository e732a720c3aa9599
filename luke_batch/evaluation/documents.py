"""GOLD, documents with the annotation that is right, and ANNOTATED, what was found in them, as labelled places.

A row of GOLD that cannot be used is skipped and counted.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.base.errors import InputError
from luke_batch.document.source import readable, text_errors
from luke_batch.evaluation.items import NULL, Integers, Items, Structs
from luke_batch.evaluation.tables import ANNOTATED_COLUMNS, GOLD_COLUMNS, ID, TEXT, Task, read_documents


@dataclass(frozen=True, slots=True)
class Gold:
    """The usable rows of GOLD."""

    ids: pa.Array
    texts: pa.Array
    items: Items
    """Without repetitions; a document is a position in `ids`."""
    repeated: int
    """Items that were left out because the same one stands beside them."""
    skipped: dict[str, int]
    """Reason -> rows that cannot be used."""
    skipped_ids: pa.Array


def read_gold(location: str, task: Task, id_column: str, text_column: str) -> Gold:
    """Read GOLD for a task.

    Raises:
        InputError: what `read_documents` raises; no usable row, or nothing annotated in any.
    """
    lists = GOLD_COLUMNS[task]
    table = read_documents("GOLD", location, id_column, text_column, lists, text_needed=True)
    faults = _faults(table, task)
    usable = np.ones(table.num_rows, np.bool_)
    usable[list(faults)] = False
    skipped = dict(Counter(faults.values()).most_common())
    if not usable.any():
        reasons = ", ".join(f"{reason} ({count})" for reason, count in skipped.items())
        raise InputError(f"GOLD {location} has no usable row: {reasons}")
    kept = table.filter(pa.array(usable))
    items = _gold_items(kept, task)
    if not len(items):
        raise InputError(f"GOLD {location} has nothing to score: its {list(lists)[-1]} are empty in every usable row")
    distinct = items.distinct()
    return Gold(
        ids=kept[ID],
        texts=kept[TEXT],
        items=distinct,
        repeated=len(items) - len(distinct),
        skipped=skipped,
        skipped_ids=table.filter(pa.array(~usable))[ID],
    )


def _faults(table: pa.RecordBatch, task: Task) -> dict[int, str]:
    """Row -> why it cannot be used; the first reason that is found."""
    faults: dict[int, str] = {}

    def mark(rows: Integers, wrong: NDArray[np.bool_], reason: str) -> None:
        for row in np.unique(rows[wrong]).tolist():
            faults.setdefault(row, reason)

    every = np.arange(table.num_rows)
    for column, reason in ((ID, "no id"), (TEXT, "no text")):
        mark(every, table[column].is_null().to_numpy(zero_copy_only=False), reason)
    mark(every, np.isin(every, list(text_errors(pa.chunked_array([table[TEXT]])))), "text is not UTF-8")
    spans = Structs.of(table[_span_column(task)])
    bounds = spans.integers("start", "end")
    lengths = pc.call_function("utf8_length", [table[TEXT]]).fill_null(0).to_numpy(zero_copy_only=False)
    mark(spans.parents, np.any(bounds == NULL, axis=1), "offset is null")
    mark(spans.parents, bounds[:, 0] >= bounds[:, 1], "offsets reversed or empty")
    outside = (bounds[:, 0] < 0) | (bounds[:, 1] > lengths[spans.parents])
    mark(spans.parents, outside, "offset out of range")
    labelled = spans
    if task == "relations":
        labelled = Structs.of(table["relations"])
        astray = np.any(spans.pointed_at(labelled) < 0, axis=1)
        mark(labelled.parents, astray, "relation to an entity that is not there")
    label = _label(task)
    mark(labelled.parents, labelled.lacks(label), f"{label} is null")
    return faults


def _gold_items(table: pa.RecordBatch, task: Task) -> Items:
    spans = Structs.of(table[_span_column(task)])
    labelled, places = spans, spans.integers("start", "end")
    if task == "relations":
        labelled = Structs.of(table["relations"])
        places = places[spans.pointed_at(labelled)].reshape(-1, 4)
    scores = np.full(len(places), np.nan)
    return Items(labelled.parents, places, labelled.strings(_label(task)), scores)


def _span_column(task: Task) -> str:
    return next(iter(GOLD_COLUMNS[task]))


def _label(task: Task) -> str:
    return "title" if task == "links" else "label"


@dataclass(frozen=True, slots=True)
class Annotated:
    """The rows of ANNOTATED that are documents of GOLD."""

    items: Items
    """Without repetitions; a document is a position in GOLD's ids."""
    documents: int
    """Documents of GOLD that are here."""
    failed: int
    """Those of them without annotations (null)."""
    unknown: int
    """Rows whose id GOLD does not have."""
    texts_compared: bool
    """False where ANNOTATED has no text column."""


def read_annotated(location: str, gold: Gold, task: Task, id_column: str, text_column: str) -> Annotated:
    """Read ANNOTATED for a task.

    Raises:
        InputError: what `read_documents` raises; no document of GOLD, a text that differs from GOLD's, a
        mention without offsets, a relation to no mention.
        OutputError: an OUTPUT without a committed file.
    """
    lists = ANNOTATED_COLUMNS[task]
    table = read_documents("ANNOTATED", location, id_column, text_column, lists, text_needed=False)
    places = pc.call_function("index_in", [table[ID]], pc.SetLookupOptions(gold.ids))
    table = table.append_column("row", places)
    ours = table.filter(places.is_valid())
    if not ours.num_rows:
        raise InputError(f"ANNOTATED {location} has none of GOLD's documents; are the ids the same?")
    compared = ours[TEXT].null_count < ours.num_rows
    if compared:
        _check_texts(location, ours, gold)
    skipped = pc.call_function("is_in", [table[ID]], pc.SetLookupOptions(gold.skipped_ids.drop_null()))
    return Annotated(
        items=_found_items(location, ours, task).distinct(),
        documents=ours.num_rows,
        failed=ours[next(iter(lists))].null_count,
        unknown=table.num_rows - ours.num_rows - skipped.true_count,
        texts_compared=compared,
    )


def _check_texts(location: str, table: pa.RecordBatch, gold: Gold) -> None:
    differs = pc.call_function("not_equal", [table[TEXT], gold.texts.take(table["row"])]).fill_null(True)
    wrong = table[ID].filter(differs)
    if len(wrong):
        raise InputError(
            f"ANNOTATED {location}: the text of {len(wrong)} documents differs from GOLD's,"
            f" {readable(wrong[0])!r} first, so their offsets cannot be compared; annotate GOLD's own texts,"
            " or name their column with --text-column"
        )


def _found_items(location: str, table: pa.RecordBatch, task: Task) -> Items:
    """All items; a document is a position in GOLD's ids."""
    mentions = Structs.of(table["mentions"])
    bounds = mentions.integers("start", "end")
    _refuse(location, table, mentions, np.any(bounds == NULL, axis=1), "a mention without start or end")
    if task == "ner":
        items = _labelled(mentions, mentions.parents, bounds, "label", "score")
    elif task == "links":
        items = _labelled(mentions, mentions.parents, bounds, "title", "title_score")
    elif task == "types":
        types = mentions.structs("types")
        items = _labelled(types, mentions.parents[types.parents], bounds[types.parents], "label", "score")
    else:
        relations = Structs.of(table["relations"])
        ends = mentions.pointed_at(relations)
        _refuse(location, table, relations, np.any(ends < 0, axis=1), "a relation to a mention that is not there")
        items = _labelled(relations, relations.parents, bounds[ends].reshape(-1, 4), "label", "score")
    rows = table["row"].to_numpy(zero_copy_only=False).astype(np.int64)
    return Items(rows[items.documents], items.places, items.labels, items.scores)


def _labelled(structs: Structs, documents: Integers, places: Integers, label: str, score: str) -> Items:
    """The items of structs that have a label; a mention may have none."""
    items = Items(documents, places, structs.strings(label), structs.floats(score))
    return items.take(~structs.lacks(label))


def _refuse(location: str, table: pa.RecordBatch, structs: Structs, wrong: NDArray[np.bool_], what: str) -> None:
    """What luke-batch writes is checked before it is committed: such a file is not to be trusted at all."""
    if wrong.any():
        id = readable(table[ID][int(structs.parents[wrong][0])])
        raise InputError(f"ANNOTATED {location}: document {id!r} has {what}; mend or remove it")
