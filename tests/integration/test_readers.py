"""OUTPUT/data/**/*.parquet is a dataset for every tool: mentions by label, and vectors as an array."""

from collections import Counter
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

import luke_batch
from tests.checkpoints import HIDDEN
from tests.integration.conftest import Annotated, read_data


@pytest.fixture
def labels(annotated: Annotated) -> Counter[str]:
    """Mentions by label, counted row by row."""
    rows = read_data(annotated.output).to_pylist()
    counted = Counter(mention["label"] for row in rows for mention in row["mentions"])
    assert len(counted) > 1
    return counted


@pytest.fixture
def files(annotated: Annotated) -> str:
    """The glob that a person would write."""
    return f"{annotated.output}/data/**/*.parquet"


def assert_vectors(vectors: Any, rows: int) -> None:
    """One float32 vector for each document."""
    assert vectors.shape == (rows, HIDDEN)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()


def test_duckdb(files: str, labels: Counter[str]) -> None:
    """UNNEST gives mentions as rows; vectors are arrays."""
    with duckdb.connect() as database:
        mentions = f"SELECT unnest(mentions) AS mention FROM '{files}'"
        query = f"SELECT mention.label, count(*) FROM ({mentions}) GROUP BY 1"
        assert dict(database.execute(query).fetchall()) == labels
        table = database.execute(f"SELECT text_embedding FROM '{files}'").fetchnumpy()
    assert_vectors(np.stack(list(table["text_embedding"])), len(table["text_embedding"]))


def test_pandas(annotated: Annotated, labels: Counter[str]) -> None:
    """Mentions explode into records."""
    frame: Any = pd.read_parquet(annotated.output / "data")
    mentions = pd.json_normalize(frame["mentions"].explode().dropna().tolist())
    assert mentions["label"].value_counts().to_dict() == labels
    assert_vectors(np.stack(frame["text_embedding"].tolist()), len(frame))


def test_polars(files: str, labels: Counter[str]) -> None:
    """Mentions explode into struct fields; the vector column is an array column."""
    frame = pl.read_parquet(files)
    mentions = frame.select(pl.col("mentions").explode().struct.unnest()).drop_nulls("label")
    counted = dict(mentions.group_by("label").len().rows())
    assert counted == labels
    assert_vectors(frame["text_embedding"].to_numpy(), frame.height)


def test_pyarrow(annotated: Annotated, labels: Counter[str]) -> None:
    """A dataset over the folder, flattened without Python objects."""
    table = pads.dataset(annotated.output / "data", format="parquet").to_table()
    mentions = [chunk.flatten() for chunk in table["mentions"].chunks]
    found = pa.chunked_array([chunk.field("label") for chunk in mentions]).value_counts()
    assert {row["values"]: row["counts"] for row in found.to_pylist()} == labels
    vectors: pa.Array = table["text_embedding"].combine_chunks()
    assert_vectors(vectors.flatten().to_numpy().reshape(-1, HIDDEN), table.num_rows)


def test_luke_batch_read(annotated: Annotated, labels: Counter[str]) -> None:
    """Our own reader gives the same rows as the glob."""
    table = luke_batch.read(str(annotated.output)).to_table()
    assert Counter(m["label"] for row in table["mentions"].to_pylist() for m in row) == labels
