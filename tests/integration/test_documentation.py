"""Every block of README and docs/get-started.md does what the page says, in order and in an empty folder.

A checkpoint of the hub is replaced by one with random weights, its GPU by a CPU; what needs a cluster or
changes the environment is marked on the page with its reason.
"""

import shlex
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luke_batch.cli import run
from tests.corpora import put
from tests.documentation import Block, blocks

pytestmark = pytest.mark.usefixtures("ray_session")

HUB = "studio-ousia/luke-large-finetuned-conll-2003"


class Reader:
    """Somebody who does what a page says."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        self._names: dict[str, object] = {"table": pa.table({"text": ["Marie Curie was born in Warsaw."]})}

    def do(self, block: Block) -> None:
        """Execute a block; what it is not made for fails."""
        match block.language:
            case "sh":
                for line in block.code.replace("\\\n", "").splitlines():
                    self._command(shlex.split(line, comments=True))
            case "python":
                exec(compile(block.code, str(block), "exec"), self._names)
            case "sql":
                assert duckdb.execute(block.code).fetchall() is not None
            case "yaml":
                first, _, rest = block.code.partition("\n")
                here = rest.replace(HUB, str(self._checkpoint)).replace("num_gpus: 1", "num_gpus: 0")
                Path(first.removeprefix("# ")).write_text(here, encoding="utf-8")
            case _:
                assert block.language == "text", f"{block}: nobody knows how to run `{block.language}`"

    def _command(self, words: list[str]) -> None:
        if words:
            assert words[0].removeprefix(".venv/bin/") == "luke-batch", words
            assert run(words[1:]) == 0, words


@pytest.mark.parametrize("page", ["README.md", "docs/get-started.md"])
def test_blocks_work(
    page: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the order of the page; what one makes the next may use."""
    monkeypatch.chdir(tmp_path)
    if page == "README.md":
        texts = ["Marie Curie was born in Warsaw.", "Victor Hugo a vécu à Guernesey."]
        columns = {"id": ["a", "b"], "lang": ["en", "fr"], "body": texts, "text": texts}
        put(tmp_path / "news", "today.parquet", pa.table(columns))
    reader = Reader(checkpoint)
    done = [block for block in blocks(page) if block.reason is None]
    for block in done:
        reader.do(block)
    assert {"sh", "python", "yaml"} <= {block.language for block in done}
    assert "error:" not in capsys.readouterr().err
    annotated = [pq.read_table(path) for path in (tmp_path / "news-annotated" / "data").rglob("*.parquet")]
    assert sum(table.num_rows for table in annotated) >= 2
    assert any(mentions for table in annotated for mentions in table["mentions"].to_pylist())
