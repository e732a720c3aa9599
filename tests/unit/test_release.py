"""What a release consists of agrees with itself."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import luke_batch

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_version_has_a_section_in_the_changelog() -> None:
    """As released, or as what comes next."""
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert sections[0] == PROJECT["version"] == luke_batch.__version__


def test_every_embedded_work_has_its_licence() -> None:
    """NOTICE, which the wheel carries, names each file or folder of luke_batch/embedded."""
    notice = (ROOT / "NOTICE").read_text("utf-8")
    works = {path.name for path in (ROOT / "luke_batch" / "embedded").iterdir()} - {
        "__init__.py",
        "__pycache__",
    }
    assert works
    for name in works:
        assert f"luke_batch/embedded/{name}" in notice, name
    assert PROJECT["license-files"] == ["LICENSE", "NOTICE"]
    assert "| licence |" in (ROOT / "luke_batch" / "embedded" / "model" / "README.md").read_text("utf-8")


def test_every_dependency_is_pinned() -> None:
    """What `make install` and the image install is what was tested."""
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    pinned = {_normal(name) for name in pins}
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]
    names = {_normal(re.split(r"[\[<>=!~ ]", line)[0]) for line in wanted} - {"luke-batch"}
    assert names <= pinned, names - pinned


def test_no_dependency_is_fetched_from_an_address() -> None:
    """Packages come from the index alone."""
    lines = [*PROJECT["dependencies"], *(ROOT / "constraints.txt").read_text("utf-8").splitlines()]
    assert not [line for line in lines if "://" in line or " @ " in line]


@pytest.mark.parametrize(("target", "extras"), [("demo", []), ("test", ["dev"]), ("check", ["dev"])])
def test_a_demo_installs_what_a_run_needs(tmp_path: Path, target: str, extras: list[str]) -> None:
    """On a bare clone `make demo` installs the package alone, `make test` and the others what developers need, too."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=True)
    installed = re.findall(r"pip install .*-c constraints\.txt -e '?\.(?:\[(\w+)\])?", done.stdout)
    assert installed == ["", *extras]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
