"""Whether the mentions of one entity are each other's neighbours, against what their letters alone tell.

Queries are the mentions whose title has a mention with another case-folded surface, the pool are all mentions
with another surface than the query's; what counts is whether the nearest one by cosine has the same title.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_array
from sklearn.feature_extraction import DictVectorizer

from luke_batch.annotate.annotator import Annotator
from luke_batch.base.arrays import FloatArray
from luke_batch.config import JobConfig


def identity_recall(file: Path, model: str) -> dict[str, float]:
    """recall@1 in percent by mention vectors and by counts of character 1- to 3-grams, and the queries."""
    rows = pq.read_table(file)
    rows = rows.filter(pa.array([bool(links) for links in rows["links"].to_pylist()]))
    job = JobConfig.model_validate(
        {
            "input": {"mentions_column": "links"},
            "models": {"main": {"path": model}},
            "heads": [{"head": "embeddings", "spans": "given", "of": "mentions"}],
        }
    )
    surfaces: list[str] = []
    titles: list[str] = []
    vectors: list[Any] = []
    for row in Annotator.from_config(job).annotate(rows).to_pylist():
        place = {(item["start"], item["end"]): number for number, item in enumerate(row["mentions"])}
        for link in row["links"]:
            if link["title"] is not None:
                surfaces.append(row["text"][link["start"] : link["end"]].casefold())
                titles.append(link["title"])
                vectors.append(row["mention_embeddings"][place[link["start"], link["end"]]])
    forms: dict[str, set[str]] = defaultdict(set)
    for surface, title in zip(surfaces, titles, strict=True):
        forms[title].add(surface)
    queries = np.array([place for place, title in enumerate(titles) if len(forms[title]) > 1])
    names, entities = (np.unique(values, return_inverse=True)[1] for values in (surfaces, titles))
    return {
        "vectors": _recall(np.array(vectors, np.float32), queries, names, entities),
        "character n-grams": _recall(_grams(surfaces), queries, names, entities),
        "queries": float(len(queries)),
    }


def _recall(vectors: FloatArray, queries: Any, names: Any, entities: Any) -> float:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    cosines = unit[queries] @ unit.T
    cosines[names[queries][:, None] == names[None, :]] = -np.inf
    return float(100 * np.mean(entities[cosines.argmax(1)] == entities[queries]))


def _grams(surfaces: list[str]) -> FloatArray:
    counts = [
        Counter(text[place : place + size] for size in (1, 2, 3) for place in range(len(text) - size + 1))
        for text in surfaces
    ]
    matrix: csr_array = DictVectorizer().fit_transform(counts)
    return matrix.toarray().astype(np.float32)
