"""docs/own-parts.md: the package of the page is found by its entry points, and runs."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.documentation import ROOT, blocks

_RUN = """
import pyarrow as pa
from luke_batch import Annotator
from luke_batch.config.loading import load_config

assert load_config("job.yaml", []).proposers.capitals.letters == 4
config = load_config("job.yaml", ["heads.0.spans=[capitals]"])
table = Annotator.from_config(config).annotate(pa.table({"id": ["a"], "text": ["Quietly Marie Curie met Max."]}))
print(table["error"].to_pylist(), table["loudness"].type, len(table["loudness"][0]))
print(table["coverage"][0].as_py()["spans_proposed"])
"""


@pytest.fixture
def loud(tmp_path: Path) -> Path:
    """A folder with the page's files, and what an installer writes of its entry points."""
    files = [re.match(r"# (\S+)\n", block.code) for block in blocks("docs/own-parts.md")]
    for found in files:
        assert found is not None, "every block of the page is a file"
        path = tmp_path / found[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(found.string, "utf-8")
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text("utf-8"))["project"]
    installed = tmp_path / f"{project['name']}-{project['version']}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n", "utf-8")
    lines = [
        line
        for group, entries in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()))
    ]
    (installed / "entry_points.txt").write_text("\n".join(lines), "utf-8")
    return tmp_path


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own, where the package in `folder` is installed."""
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_package_of_the_page_runs(loud: Path) -> None:
    """Its column has the type that the head gives; its proposer finds Quietly, Marie and Curie, and not Max."""
    done = run(loud, _RUN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[None] list<item: struct<tokens: int32, length: float>> 1", "3"]


@pytest.mark.parametrize(
    ("stated", "told"), [("interface = 2", "made for interface 2 of"), ("pass", "made for interface None of")]
)
def test_another_interface_is_refused_with_the_reason(loud: Path, stated: str, told: str) -> None:
    """By name, version and cure, before any work; a class that states none was written for none."""
    module = loud / "loud" / "heads.py"
    module.write_text(module.read_text("utf-8").replace("interface = 1", stated), "utf-8")
    done = run(loud, "from luke_batch.cli import main; import sys; sys.argv[1:] = ['config', 'show']; main()")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: entry point loudness of loud 0.1: {told} luke-batch's Head, but")
    assert done.stderr.endswith("(the class must state `interface = 1`); update the package or luke-batch\n")
