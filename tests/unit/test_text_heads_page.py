"""docs/text-heads.md: every configuration there runs, and every query on what it wrote."""

import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from luke_batch import Annotator, JobConfig
from luke_batch.document.columns import Rows, codec_of
from tests.checkpoints import Recipe, with_head
from tests.text_heads import SHORT

PAGE = (Path(__file__).parents[2] / "docs" / "text-heads.md").read_text("utf-8")
HEADS = ("sequence", "tokens", "qa", "choice")
QUERY_FOLDER = "'reviews-annotated/data/**/*.parquet'"


@pytest.mark.parametrize("head", HEADS)
def test_the_examples_run(head: str, checkpoint_folder: Callable[[Recipe], Path], tmp_path: Path) -> None:
    """The section of each head has a job that runs with a checkpoint of its class, and a query that finds
    something in the output.
    """
    section = next(part for part in PAGE.split("\n## ") if part.startswith(f"{head}:"))
    (text,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    (query,) = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    folder = checkpoint_folder(with_head(head, Recipe()))
    assert f"/models/my-{head}" in text
    config = JobConfig.model_validate(yaml.safe_load(text.replace(f"/models/my-{head}", str(folder))))
    assert [configured.head for configured in config.heads] == [head]
    table = pa.table(
        {
            "id": ["a"],
            "text": [SHORT],
            "question": ["Where was she born?"],
            "options": [["in Warsaw", "in Paris"]],
        }
    )
    annotated = Annotator.from_config(config).annotate(table)
    assert annotated["error"].null_count == 1
    pq.write_table(annotated, tmp_path / "part.parquet")
    assert QUERY_FOLDER in query
    with duckdb.connect() as database:
        rows = database.execute(query.replace(QUERY_FOLDER, f"'{tmp_path}/*.parquet'")).fetchall()
    assert rows
    assert None not in rows[0]


def test_the_page_names_every_reason_that_the_heads_count() -> None:
    """Each `drop` of theirs is in the table, and nothing else is."""
    sources = [Path(__file__).parents[2] / "luke_batch" / "heads" / f"{head}.py" for head in HEADS]
    counted = {name for path in sources for name in re.findall(r'drop\("(\w+)"', path.read_text("utf-8"))}
    table = PAGE[PAGE.index("| reason |") :]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == counted
    assert all(isinstance(codec_of(name), Rows) for name in ("sequence", "tokens", "answers", "choice"))
