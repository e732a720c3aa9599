"""ANNOTATED: what was found in the documents of GOLD."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.base.errors import InputError
from luke_batch.document.texts import readable
from luke_batch.evaluation.gold import Gold
from luke_batch.evaluation.items import NULL, Integers, Items, Structs
from luke_batch.evaluation.tables import ID, TEXT, Columns, read_documents
from luke_batch.evaluation.tasks import ANNOTATED_COLUMNS, Task


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
    columns = Columns(id_column, text_column, ANNOTATED_COLUMNS[task], text_needed=False)
    table = read_documents("ANNOTATED", location, columns)
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
        items=_items(location, ours, task).distinct(),
        documents=ours.num_rows,
        failed=ours[next(iter(columns.lists))].null_count,
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


def _items(location: str, table: pa.RecordBatch, task: Task) -> Items:
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
    labels = structs.strings(label)
    items = Items(documents, places, labels, structs.floats(score))
    return items.take(~structs.lacks(label))


def _refuse(location: str, table: pa.RecordBatch, structs: Structs, wrong: NDArray[np.bool_], what: str) -> None:
    """What luke-batch writes is checked before it is committed: such a file is not to be trusted at all."""
    if wrong.any():
        id = readable(table[ID][int(structs.parents[wrong][0])])
        raise InputError(f"ANNOTATED {location}: document {id!r} has {what}; mend or remove it")
