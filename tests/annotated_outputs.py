"""Annotated outputs for the tests of luke_batch/index: files named and marked as `annotate` does it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.corpus.output_file import Key, path_hash

MODELS = {"embedded": {"weights": "w1", "revision": None}}
MENTION = pa.struct(
    [
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("text", pa.string()),
        pa.field("label", pa.string()),
        pa.field("title", pa.string()),
        pa.field("qid", pa.string()),
    ]
)


def document(id: str, mentions: Sequence[tuple[str, str | None]], lang: str = "en", **more: Any) -> dict[str, Any]:
    """A document whose text is its mentions, (surface, label), with blanks between; `more`: qids, titles,
    vectors by position.
    """
    found: list[dict[str, Any]] = []
    text = ""
    for number, (surface, label) in enumerate(mentions):
        start = len(text)
        text += surface + " "
        found.append(
            {
                "start": start,
                "end": start + len(surface),
                "text": surface,
                "label": label,
                "title": more.get("titles", {}).get(number),
                "qid": more.get("qids", {}).get(number),
            }
        )
    return {"id": id, "lang": lang, "text": text, "mentions": found, "vectors": more.get("vectors", {})}


def put_output(
    output: Path,
    source: str,
    documents: Sequence[dict[str, Any]],
    *,
    content: str = "aaaaaaaaaaaa",
    dimension: int = 4,
    models: dict[str, Any] | None = None,
    seed: int = 0,
    dtype: pa.DataType | None = None,
) -> Path:
    """Write one committed fragment; vectors are random where a document does not give its own."""
    rng = np.random.default_rng(seed)
    vectors: list[list[list[float] | None]] = []
    for each in documents:
        row: list[list[float] | None] = []
        for number in range(len(each["mentions"])):
            drawn = rng.standard_normal(dimension).astype(np.float16).astype(float).tolist()
            row.append(each["vectors"].get(number, drawn))
        vectors.append(row)
    kind = pa.list_(pa.list_(dtype or pa.float32(), dimension))
    table = pa.table(
        {
            "id": pa.array([each["id"] for each in documents], pa.string()),
            "lang": pa.array([each["lang"] for each in documents], pa.string()),
            "text": pa.array([each["text"] for each in documents], pa.string()),
            "mentions": pa.array([each["mentions"] for each in documents], pa.list_(MENTION)),
            "mention_embeddings": pa.array(vectors, kind),
        }
    )
    marks = {"luke_batch.models": json.dumps(MODELS if models is None else models), "luke_batch.run": "run1"}
    key = Key(path_hash(source), content, "f0f0f0f0f0f0", (0, len(documents)))
    return put_table(output, key.name, table.replace_schema_metadata(marks))


def put_table(output: Path, name: str, table: pa.Table) -> Path:
    """Write a table as a data file of an output."""
    path = output / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path
