"""docs/own-parts.md: the package of the page is found by its entry points, and runs."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

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


def test_the_package_of_the_page_runs(tmp_path: Path) -> None:
    """Its column has the type that the head gives; its proposer finds Quietly, Marie and Curie, and not Max."""
    for block in blocks("docs/own-parts.md"):
        found = re.match(r"# (\S+)\n", block.code)
        assert found is not None, "every block of the page is a file"
        path = tmp_path / found[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.code, "utf-8")
    _install(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[None] list<item: struct<tokens: int32, length: float>> 1", "3"]


def _install(folder: Path) -> None:
    """What an installer writes of the entry points in pyproject.toml."""
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    installed = folder / f"{project['name']}-{project['version']}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n", "utf-8")
    lines: list[str] = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (installed / "entry_points.txt").write_text("\n".join(lines), "utf-8")
