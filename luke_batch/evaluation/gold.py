"""GOLD: documents with the annotation that is right. A row that cannot be used is skipped and counted."""

from collections import Counter
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.base.errors import InputError
from luke_batch.document.texts import text_errors
from luke_batch.evaluation.items import NULL, Integers, Items, Structs
from luke_batch.evaluation.tables import ID, TEXT, Columns, read_documents
from luke_batch.evaluation.tasks import GOLD_COLUMNS, Task


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
    columns = Columns(id_column, text_column, GOLD_COLUMNS[task], text_needed=True)
    table = read_documents("GOLD", location, columns)
    faults = _faults(table, task)
    usable = np.ones(table.num_rows, np.bool_)
    usable[list(faults)] = False
    skipped = dict(Counter(faults.values()).most_common())
    if not usable.any():
        reasons = ", ".join(f"{reason} ({count})" for reason, count in skipped.items())
        raise InputError(f"GOLD {location} has no usable row: {reasons}")
    kept = table.filter(pa.array(usable))
    items = _items(kept, task)
    if not len(items):
        last = list(columns.lists)[-1]
        raise InputError(f"GOLD {location} has nothing to score: its {last} are empty in every usable row")
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
    mark(every, _is_null(table[ID]), "no id")
    mark(every, _is_null(table[TEXT]), "no text")
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


def _items(table: pa.RecordBatch, task: Task) -> Items:
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


def _is_null(column: pa.Array) -> NDArray[np.bool_]:
    return cast("NDArray[np.bool_]", column.is_null().to_numpy(zero_copy_only=False))
