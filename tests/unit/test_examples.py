"""Documentation that says that it runs."""

from pathlib import Path

import pytest

from luke_batch.config.loading import load_config
from tests.documentation import commands, run_python, write_files


@pytest.mark.parametrize("page", ["docs/examples.md", "docs/links.md"])
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, in an empty folder; their own assertions hold."""
    monkeypatch.chdir(tmp_path)
    run_python(page)


@pytest.mark.parametrize("page", ["docs/examples.md", "docs/links.md"])
def test_configurations_are_valid(page: str, tmp_path: Path) -> None:
    """Of every file that a page shows; commands name no other."""
    write_files(page, tmp_path)
    files = {path.name for path in tmp_path.iterdir()}
    assert files
    for name in files:
        load_config(str(tmp_path / name), [])
    named = {words[words.index("--config") + 1] for words in commands(page) if "--config" in words}
    assert named == files
