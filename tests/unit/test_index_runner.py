"""Which builds start Ray."""

import sys
from pathlib import Path
from typing import Any

import pytest

from luke_batch.base.errors import InputError, OutputError
from luke_batch.distributed import index as ray_index
from luke_batch.distributed.index import build_index
from luke_batch.index.settings import IndexConfig
from tests.annotated_outputs import document, put_output


class StartedError(Exception):
    """In the place of a start of Ray."""


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is not started, nor there from an earlier test; no address comes from outside."""

    def start(*_: Any) -> None:
        raise StartedError

    monkeypatch.setattr(ray_index, "_RayRunner", start)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delitem(sys.modules, "ray", raising=False)


def test_little_work_does_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a cluster is named; much work and no cluster starts a local one; nothing to do starts none."""
    put_output(tmp_path / "out", "s", [document("a", [("Ada", "PER")])])
    arguments: Any = [str(tmp_path / "out")], str(tmp_path / "index"), IndexConfig()
    with pytest.raises(StartedError):
        build_index(*arguments, address="10.0.0.1:6379")
    with monkeypatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "auto")
        with pytest.raises(StartedError):
            build_index(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(ray_index, "_SMALL_BYTES", 10)
        with pytest.raises(StartedError):
            build_index(*arguments)
    assert not build_index(*arguments, address="local").nothing_to_do
    assert build_index(*arguments, address="10.0.0.1:6379").nothing_to_do


def test_relative_paths_of_a_submitted_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a job runs in a temporary copy of its folder."""
    monkeypatch.setenv("RAY_JOB_SUBMISSION_ID", "job")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(InputError, match="ANNOTATED out is relative"):
        build_index(["out"], str(tmp_path / "index"), IndexConfig())
    with pytest.raises(OutputError, match="INDEX index is relative"):
        build_index([str(tmp_path / "out")], "index", IndexConfig())
