"""The last look at annotated rows before they are committed.

Whatever this finds is a defect of luke-batch, not of the input, so it raises; nothing is committed then.
"""

from collections.abc import Collection
from typing import Any, NoReturn, cast

import pyarrow as pa
import pyarrow.compute as pc

from luke_batch.base.contracts import load_contract
from luke_batch.base.errors import ContractError
from luke_batch.document.columns import codec_of


def verify(table: pa.Table, texts: list[str | None], written: Collection[str]) -> None:
    """Check the written columns of good rows.

    Args:
        table: annotated rows without a failed one.
        texts: the text of each row.
        written: names of the annotation columns.

    Raises:
        ContractError: a column is missing, has another type or a null; an offset, index or mention text is
        wrong.
    """
    contract = load_contract("annotations")
    for name in written:
        if name not in contract.types or name not in table.column_names:
            _fail(f"column {name} is {'missing' if name in contract.types else 'not in annotations.v1'}")
        if table[name].null_count and not codec_of(name).nullable:
            _fail(f"column {name} has {table[name].null_count} nulls in rows without an error")
    contract.check(pa.schema([table.schema.field(name) for name in written]))
    for name in ("tokens", "answers"):
        if name in written:
            _verify_quotes(name, table[name], texts)
    if "sentences" in written:
        _verify_sentences(table["sentences"], texts)
    if "mentions" in written:
        _verify_mentions(table["mentions"], texts)
        _verify_beside(table, written)


def _verify_beside(table: pa.Table, written: Collection[str]) -> None:
    """What points at mentions, or stands beside them."""
    lengths = pc.call_function("list_value_length", [table["mentions"]])
    for name in ("mention_embeddings", "entity_embeddings"):
        if name in written and not lengths.equals(pc.call_function("list_value_length", [table[name]])):
            _fail(f"{name} does not have one vector for each mention")
    if "relations" in written:
        mentions = cast("list[int]", lengths.to_pylist())
        for parent, head, tail in _flat(table["relations"], "head", "tail"):
            if not (0 <= head < mentions[parent] and 0 <= tail < mentions[parent]):
                _fail(f"relation ({head}, {tail}) points outside the {mentions[parent]} mentions", parent)


def _verify_sentences(column: pa.ChunkedArray, texts: list[str | None]) -> None:
    row, end = -1, 0
    for parent, start, stop in _flat(column, "start", "end"):
        end = end if parent == row else 0
        if not end <= start < stop <= len(texts[parent] or ""):
            _fail(f"sentence [{start}, {stop}) overlaps another one or leaves the text", parent)
        row, end = parent, stop


def _verify_mentions(column: pa.ChunkedArray, texts: list[str | None]) -> None:
    previous = (-1, 0, 0)
    for parent, start, end, mention in _flat(column, "start", "end", "text"):
        text = texts[parent] or ""
        if not 0 <= start < end <= len(text):
            _fail(f"mention [{start}, {end}) leaves its text of {len(text)} characters", parent)
        if text[start:end] != mention:
            _fail(f"mention [{start}, {end}) says {mention!r}, its text says {text[start:end]!r}", parent)
        if (parent, start, -end) < previous:
            _fail(f"mention [{start}, {end}) is not sorted by (start, -end)", parent)
        previous = (parent, start, -end)


def _verify_quotes(name: str, column: pa.ChunkedArray, texts: list[str | None]) -> None:
    """Spans that quote the text; an answer may be none."""
    for parent, start, end, quoted in _flat(column, "start", "end", "text"):
        text = texts[parent] or ""
        nothing = (start, end, quoted) == (None, None, None)
        if not nothing and not (0 <= start < end <= len(text) and text[start:end] == quoted):
            _fail(f"{name} has [{start}, {end}) {quoted!r}, which its text does not say there", parent)


def _flat(column: pa.ChunkedArray, *members: str) -> list[tuple[Any, ...]]:
    """(row, member, …) for each element of a list<struct> column."""
    rows: list[tuple[Any, ...]] = []
    offset = 0
    for chunk in column.chunks:
        values = chunk.flatten()
        parents = [offset + row for row in pc.call_function("list_parent_indices", [chunk]).to_pylist()]
        rows.extend(zip(parents, *(values.field(name).to_pylist() for name in members), strict=True))
        offset += len(chunk)
    return rows


def _fail(problem: str, row: int | None = None) -> NoReturn:
    where = "" if row is None else f" (row {row} of the fragment's good rows)"
    raise ContractError(f"{problem}{where}; this is a defect of luke-batch: please report it")
