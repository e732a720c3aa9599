"""`annotate_dataset` inside someone's own Ray Data pipeline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
import ray
import ray.data

import luke_batch
from luke_batch import JobConfig
from luke_batch.base.errors import CheckpointError, InputError
from tests.integration.conftest import (
    assert_same_annotations,
    config_for,
    documents,
    with_broken_text,
)

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(autouse=True)
def quiet_progress() -> Iterator[None]:
    """No progress bars in the output of the tests."""
    context = ray.data.DataContext.get_current()
    before, context.enable_progress_bars = context.enable_progress_bars, False
    yield
    context.enable_progress_bars = before


def with_words(table: pa.Table, name: str = "words") -> pa.Table:
    """A stage of the user's own."""
    return table.append_column(name, pa.array([len(id.split("-")) for id in table["id"].to_pylist()]))


def test_rows_equal_the_annotator(checkpoint: Path) -> None:
    """A plain script gets what the Annotator gives; failed rows say why; other stages still find a CPU."""
    config = config_for(checkpoint, actors="auto")
    table = with_broken_text(documents("a"))
    ds: Any = ray.data.from_arrow(table).repartition(2)
    ds = ds.map_batches(with_words, batch_format="pyarrow")
    ds = luke_batch.annotate_dataset(ds, config)
    ds = ds.map_batches(with_words, fn_kwargs={"name": "after"}, batch_format="pyarrow")
    found = pa.concat_tables(cast("list[pa.Table]", ray.get(ds.to_arrow_refs())))
    assert {"words", "after", "error"} <= set(found.column_names)
    assert not [name for name in found.column_names if name.startswith("_luke_batch")]
    assert_same_annotations(found, table, config)
    errors = {row["id"]: row["error"] for row in found.select(["id", "error"]).to_pylist()}
    assert {id for id, error in errors.items() if error} == {"a-en"}
    assert errors["a-en"]["stage"] == "read"
    assert "UTF-8" in errors["a-en"]["message"]
    assert found.schema.field("text_embedding").type == pa.list_(pa.float32(), 32)


def test_refused_when_it_is_built(config: JobConfig, tmp_path: Path) -> None:
    """A wrong column or checkpoint is refused at once, and not by every worker later."""
    ds: Any = ray.data.from_arrow(documents("a").rename_columns(["id", "lang", "body", "year"]))
    with pytest.raises(InputError, match="the dataset has no column 'text'"):
        luke_batch.annotate_dataset(ds, config)
    with pytest.raises(CheckpointError):
        luke_batch.annotate_dataset(ds, config_for(tmp_path / "nothing"))
