"""`head: cloze` through a whole run on a local Ray, on a LukeForMaskedLM checkpoint."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luke_batch import Annotator, JobConfig
from luke_batch.distributed.run import annotate
from tests.checkpoints import Recipe, make, with_head
from tests.corpora import put
from tests.integration.conftest import read_data

pytestmark = pytest.mark.usefixtures("ray_session")

PROMPTS = ["[X] was born in [Y].", "[X] lives in [Y]", None, "There is no gap."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small mLUKE LukeForMaskedLM."""
    recipe = with_head("cloze", Recipe(kind="mluke", entity_aware=False))
    return make(tmp_path_factory.mktemp("masked") / "model", recipe)


def corpus() -> pa.Table:
    """Prompts, one of which is faulty and one missing."""
    return pa.table(
        {
            "id": ["a", "b", "c", "d"],
            "text": ["", "one", None, "two"],
            "prompt": pa.array(PROMPTS, pa.string()),
            "who": ["Beyoncé", "東京", "x", "y"],
            "options": [["Los Angeles", "Tokyo"], ["California"], [], None],
        }
    )


@pytest.mark.parametrize("engine", ["fast", "transformers"])
def test_rows_equal_the_annotator(engine: str, folder: Path, tmp_path: Path) -> None:
    """What comes out of Ray is what one process makes, with either engine; a bad prompt is a dead letter."""
    head = {"head": "cloze", "template_column": "prompt", "subject_column": "who"}
    head |= {"candidates_column": "options", "of": ["words", "entities"]}
    config = JobConfig.model_validate(
        {
            "models": {"main": {"path": str(folder), "actors": 1, "engine": engine}},
            "heads": [head],
            "output": {"error_budget": 1},
        }
    )
    put(tmp_path / "in", "prompts.parquet", corpus())
    annotate(str(tmp_path / "in"), str(tmp_path / "out"), config, quiet=True)
    found = {row["id"]: row["cloze"] for row in read_data(tmp_path / "out").to_pylist()}
    expected = Annotator.from_config(config).annotate(corpus().slice(0, 3)).to_pylist()
    assert found == {row["id"]: _approximately(row["cloze"]) for row in expected}
    assert [len(found[name] or []) for name in "abc"] == [2, 1, 0]
    assert found["c"] is None
    letters = [pq.read_table(file) for file in (tmp_path / "out" / "_dead_letters").glob("*.parquet")]
    ((name, stage, message),) = (
        (row["id"], row["stage"], row["message"]) for row in pa.concat_tables(letters).to_pylist()
    )
    assert (name, stage) == ("d", "cloze")
    assert "has 0 objects [Y] instead of one" in message


def _approximately(rows: list[dict[str, Any]] | None) -> Any:
    """Scores within float tolerance."""
    scores = ("word_score", "entity_score")
    return rows and [
        {"text": row["text"], **{name: row[name] and pytest.approx(row[name], abs=1e-5) for name in scores}}
        for row in rows
    ]
