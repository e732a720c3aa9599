"""Small corpora, and annotations made without a model, for the tests of luke_batch/corpus."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.contracts import load_contract
from luke_batch.config import InputConfig, JobConfig, OutputConfig
from luke_batch.corpus.commit import Committed, RunContext, commit_item
from luke_batch.corpus.plan import Plan
from luke_batch.corpus.read import ReadItem, read_item
from luke_batch.document.columns import ERROR, ERROR_TYPE, FRAGMENT
from luke_batch.document.source import rename_collisions, source_column, text_errors, texts_of

FINGERPRINT = "f0f0f0f0f0f0f0f0"
VECTOR = pa.list_(pa.float32(), 3)
WRITTEN = ("sentences", "mentions", "mention_embeddings", "text_embedding", "coverage")

Annotate = Callable[[pa.Table], pa.Table]


def documents(count: int, first: int = 0) -> pa.Table:
    """`count` documents with ids `d<first>`, … and texts of two words."""
    numbers = range(first, first + count)
    return pa.table(
        {
            "id": [f"d{number}" for number in numbers],
            "text": [f"Łódź{number} grows." for number in numbers],
            "year": pa.array([1900 + number % 100 for number in numbers], pa.int16()),
        }
    )


def put(folder: Path, name: str, table: pa.Table, **options: Any) -> Path:
    """Write `table` as folder/name."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def job(max_rows: int = 4) -> JobConfig:
    """A configuration with small fragments."""
    return JobConfig(output=OutputConfig(max_rows=max_rows))


def context(**changes: Any) -> RunContext:
    """A run."""
    values: dict[str, Any] = {
        "run_id": "run1",
        "fingerprint": FINGERPRINT,
        "written": WRITTEN,
        "input": InputConfig(),
        "metadata": {"models": "{}"},
    }
    return RunContext(**{**values, **changes})


def annotate(table: pa.Table, config: InputConfig | None = None, written: Sequence[str] = WRITTEN) -> pa.Table:
    """Annotate a table as it comes from `read_item`: one sentence, one mention (its first word), vectors.

    Texts that hold `FAIL` and texts that are not UTF-8 fail.
    """
    config = config or InputConfig()
    table = rename_collisions(table, written)
    column = source_column(table, config.text_column)
    wrong = text_errors(column)
    texts = [text or "" for text in texts_of(column)]
    errors = [
        {"stage": "segment", "error_class": "DocumentError", "message": wrong.get(row, "told to fail")}
        if row in wrong or "FAIL" in text
        else None
        for row, text in enumerate(texts)
    ]
    rows = [None if error else _annotation(text) for text, error in zip(texts, errors, strict=True)]
    contract = load_contract("annotations")
    for name in written:
        field = contract.field(name, VECTOR)
        table = table.append_column(field, pa.array([row and row[name] for row in rows], field.type))
    return table.append_column(ERROR, pa.array(errors, ERROR_TYPE))


def run(plan: Plan, context: RunContext, annotate: Annotate = annotate) -> list[Committed]:
    """Read, annotate and commit every item of `plan`."""
    committed: list[Committed] = []
    for item in plan.items:
        read = read_item(plan.source, item, context.input)
        committed += commit(plan, read, context, annotate)
    return committed


def commit(plan: Plan, read: ReadItem, context: RunContext, annotate: Annotate = annotate) -> list[Committed]:
    """Annotate and commit one item that has been read."""
    return commit_item(plan.output, read.item, annotate(read.table), read.failures, context)


def document_rows(table: pa.Table) -> int:
    """Rows of a table from `read_item` that stand for documents."""
    return sum(fragment >= 0 for fragment in table[FRAGMENT].to_pylist())


def _annotation(text: str) -> dict[str, Any]:
    words = text.split()
    start = len(text) - len(text.lstrip())
    end = start + len(words[0]) if words else 0
    mention = {
        "start": start,
        "end": end,
        "text": text[start:end],
        "sentence": 0,
        "label": "PLACE",
        "score": 0.5,
    }
    return {
        "sentences": [{"start": start, "end": len(text.rstrip())}] if words else [],
        "mentions": [mention] if words else [],
        "relations": [],
        "mention_embeddings": [[1.0, 2.0, 3.0] if len(words) > 1 else None] if words else [],
        "text_embedding": [0.5, 0.5, float(len(text))] if words else None,
        "coverage": {
            "characters": len(text),
            "sentences": bool(words) + 0,
            "windows": bool(words) + 0,
            "tokens": len(words),
            "spans_proposed": 1,
            "spans_scored": 1,
            "dropped": [],
        },
    }
