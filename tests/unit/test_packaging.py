"""What a wheel holds: all that the package reads at run time, so that it works outside of a checkout."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.reported import report_run, sentences

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packed() -> dict[str, Path]:
    """Path in the wheel -> file of the checkout."""
    files = WheelBuilder(str(_ROOT)).recurse_included_files()
    return {file.distribution_path: Path(file.path) for file in files}


def test_a_wheel_has_every_module_template_and_contract(packed: dict[str, Path]) -> None:
    """All files below both folders; contracts move into the package."""
    homes = {"luke_batch": "luke_batch", "schemas": "luke_batch/_schemas"}
    wanted = {
        f"{home}/{path.relative_to(_ROOT / folder).as_posix()}"
        for folder, home in homes.items()
        for path in (_ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= set(packed)
    assert "luke_batch/report/templates/report.html" in packed
    assert not [path for path in packed if not path.startswith("luke_batch/")]


def test_a_report_is_made_outside_of_a_checkout(packed: dict[str, Path], tmp_path: Path) -> None:
    """From the files of the wheel alone, in a folder of its own."""
    for path, file in packed.items():
        if "/embedded/" not in path:
            target = tmp_path / "site" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    report_run(tmp_path, sentences(3))
    code = "import sys; from luke_batch import cli; print(cli.__file__); sys.exit(cli.run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "report", "out", "--html", "report.html"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert "Marie Curie" in (tmp_path / "report.html").read_text(encoding="utf-8")
