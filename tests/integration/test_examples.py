"""The commands of docs/examples.md, on Ray, against what one process makes of the same."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import luke_batch
from luke_batch import Annotator, cli
from luke_batch.config.loading import load_config
from tests.documentation import commands, run_python, write_files

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.mark.parametrize("page", ["docs/examples.md"])
def test_commands_give_what_python_gives(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command ends with 0, and its OUTPUT holds the annotations of its configuration."""
    monkeypatch.chdir(tmp_path)
    run_python(page)
    write_files(page, tmp_path)
    lines = [words for words in commands(page) if words[0] == "annotate"]
    assert len(lines) == 3
    for words in lines:
        assert cli.run([*words, "--quiet"]) == 0
        config = load_config(words[words.index("--config") + 1], [])
        row = Annotator.from_config(config).annotate(pq.read_table(words[1])).to_pylist()[0]
        (found,) = luke_batch.read(words[2]).to_table().to_pylist()
        for column in ("mention_embeddings", "entity_embeddings", "text_embedding"):
            if column in row:
                assert np.array(found[column]) == pytest.approx(np.array(row[column]), abs=1e-4)
        assert [(item["label"], item["head"]) for item in found.get("relations") or []] == [
            (item["label"], item["head"]) for item in row.get("relations") or []
        ]
