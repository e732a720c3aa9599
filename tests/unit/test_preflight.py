"""Broken set-ups through the real command: every problem has its line, all at once, and nothing is
written.
"""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest
import ray

from luke_batch import cli
from luke_batch.base.errors import OutputError, PreflightError, UsageError
from luke_batch.base.problems import Problems
from luke_batch.config.fingerprint import installed
from luke_batch.corpus import access
from luke_batch.corpus.storage import Storage
from luke_batch.distributed import run as runner
from luke_batch.distributed.preflight import other_versions
from tests.corpora import documents, put

Refused = Callable[..., list[str]]


class _Usage(NamedTuple):
    """As `shutil.disk_usage` gives it."""

    total: int
    used: int
    free: int


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Runs `annotate` on tmp_path/in and tmp_path/out; its lines on standard error."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("this must be refused before any work")

    monkeypatch.setattr(runner, "check_cluster", never)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for name in ("LUKE_BATCH_DEBUG", "RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)

    def call(*options: str, input: str = "in", output: str = "out") -> list[str]:
        before = _tree(tmp_path)
        assignments = [part for option in options for part in ("--set", option) if "=" in option]
        others = [option for option in options if "=" not in option]
        code = cli.run(["annotate", str(tmp_path / input), str(tmp_path / output), *assignments, *others])
        captured = capsys.readouterr()
        assert (code, captured.out) == (2, "")
        assert "Traceback" not in captured.err
        assert _tree(tmp_path) == before, "nothing may be written"
        lines = captured.err.splitlines()
        assert all(line.startswith("error: ") for line in lines)
        return lines

    return call


def _tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def _each(lines: list[str], *said: str) -> None:
    """Every line says one of `said`, in this order, and no line says more."""
    assert len(lines) == len(said), lines
    for line, part in zip(lines, said, strict=True):
        assert part in line


def test_input_output_model_and_cluster_at_once(refused: Refused, tmp_path: Path) -> None:
    """Four things that have nothing to do with one another."""
    (tmp_path / "file").touch()
    lines = refused("models.main.path=/no/model", "models.main.num_cpus=4096", output="file/out")
    _each(lines, "is a file; choose another folder", "/no/model: no such model folder", "does not exist",
          "each actor needs 4096 CPUs")  # fmt: skip


def test_a_wrong_configuration_does_not_hide_wrong_places(refused: Refused, tmp_path: Path) -> None:
    """Without a configuration INPUT and OUTPUT are looked at as far as that goes."""
    (tmp_path / "file").touch()
    lines = refused("heads.0.treshold=1", output="file/out")
    _each(lines, "unknown key `heads.0.treshold`", "does not exist", "is a file; choose another folder")


def test_every_model_is_named(refused: Refused, tmp_path: Path) -> None:
    """Two checkpoints that are missing, and a names table that is, too."""
    put(tmp_path / "in", "a.parquet", documents(2))
    lines = refused(
        "heads.0.model=/no/ner",
        "heads.1.model=/no/types",
        "heads.2.model=/no/types",
        "heads.3.model=/no/types",
        "proposers.gazetteer.path=/no/names.csv",
    )
    _each(lines, "/no/names.csv cannot be read", "/no/ner: no such", "/no/types: no such")


def test_columns_restriction_and_device_at_once(refused: Refused, tmp_path: Path) -> None:
    """A column that no file has, nonsense in --where, and a device that no actor would get."""
    put(tmp_path / "in", "a.parquet", documents(2).drop_columns(["text"]))
    lines = refused("models.main.device=cuda", "--where", "nonsense")
    _each(lines, "nonsense", "no column 'text'", "`device: cuda` needs `num_gpus` above 0")


def test_a_cluster_that_is_not_there_and_no_input(refused: Refused) -> None:
    """The address is tried although there is nothing to annotate."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    lines = refused("--address", f"127.0.0.1:{port}")
    _each(lines, "does not exist", f"no Ray cluster at 127.0.0.1:{port}")


def test_a_full_disk_and_too_many_actors(
    refused: Refused, tmp_path: Path, multi_head_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of OUTPUT, that of Ray's own files, and a pool that would not fit: without starting Ray."""
    put(tmp_path / "in", "a.parquet", documents(2))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(10**9, 10**9 - 1000, 1000))
    lines = refused(f"models.main.path={multi_head_folder}", "models.main.actors=4096")
    _each(lines, "0 MB of free disk, and 2 documents need", "Ray's folder", "the model actors need 4096 CPUs")


def test_a_folder_that_takes_no_file(
    refused: Refused, tmp_path: Path, multi_head_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only mount lets permissions look good; and a model that fits on no node."""
    put(tmp_path / "in", "a.parquet", documents(2))

    def read_only(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(access.tempfile, "TemporaryFile", read_only)
    lines = refused(f"models.main.path={multi_head_folder}", "models.main.num_gpus=512")
    _each(lines, "cannot be written: [Errno 30] Read-only file system", "each actor needs 1 CPU and 512 GPUs")


def test_an_unknown_kind_of_output_and_no_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A URL that nobody knows does not hide that INPUT is missing."""
    assert cli.run(["annotate", str(tmp_path / "in"), "nowhere://out", "--set", "models.main.path=/no"]) == 2
    _each(capsys.readouterr().err.splitlines(), "nowhere://out", "/no: no such model", "does not exist")


def test_a_plan_names_all_problems_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`plan` refuses what `annotate` would, as far as no cluster is asked."""
    assert cli.run(["plan", str(tmp_path / "in"), str(tmp_path), "--set", "models.main.path=/no"]) == 2
    _each(capsys.readouterr().err.splitlines(), "/no: no such model folder", "does not exist")


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    """Neither in a folder that exists nor above one that does not."""
    access.probe_output(Storage.at(str(tmp_path)))
    access.probe_output(Storage.at(str(tmp_path / "a" / "b")))
    assert list(tmp_path.iterdir()) == []


def test_a_probe_of_a_store_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object store's refusal is a line with the cause and the cure."""
    storage = Storage.at("memory://bucket/out")

    def refuse(*_: object) -> None:
        raise OSError("AccessDenied")

    access.probe_output(storage)
    assert storage.list() == []
    monkeypatch.setattr(storage, "write_atomic", refuse)
    with pytest.raises(OutputError, match="cannot be written: AccessDenied; correct the path"):
        access.probe_output(storage)


def test_one_problem_is_raised_as_itself() -> None:
    """Callers may catch the kind of error that they know; the same words are noted once."""
    problems = Problems()
    problems.raise_any()
    for _ in range(2):
        with problems.noted():
            raise OutputError("full")
    with pytest.raises(OutputError, match="full"):
        problems.raise_any()
    problems.add(PreflightError([UsageError("x"), OutputError("full")]))
    with pytest.raises(PreflightError, match="2 problems: full; x"):
        problems.raise_any()
    with pytest.raises(ValueError, match="other"), problems.noted():
        raise ValueError("other")


def test_the_disk_is_judged_by_the_last_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of a document in the run before times documents to do; the run is named."""
    from luke_batch.corpus.plan import make_plan
    from tests.corpora import FINGERPRINT, job

    put(tmp_path / "in", "a.parquet", pa.concat_tables([documents(1000)] * 3))
    output = Storage.at(str(tmp_path / "out"))
    plan = make_plan(str(tmp_path / "in"), output, job(1000), FINGERPRINT)
    (tmp_path / "out" / "_luke_batch" / "runs").mkdir(parents=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(10**9, 0, 100_000_000))
    access.check_space(plan, 1000)
    _write_run(output, {"documents": 10, "bytes": 1_000_000})
    with pytest.raises(UsageError, match=r"3,000 documents need 308 MB at 100,000 bytes each, as in run r1"):
        access.check_space(plan, 1000)


def _write_run(output: Storage, figures: dict[str, int]) -> None:
    from luke_batch.corpus.manifest import RunManifest, write_manifest

    run = RunManifest("r1", "2026-11-26T00:00:00+00:00", None, "in", output.url, "f", {}, {}, figures=figures)
    write_manifest(output, run)


def test_a_node_says_what_it_does_not_see(tmp_path: Path, multi_head_folder: Path) -> None:
    """A mount that is missing on one node: INPUT, OUTPUT and model are asked for there."""
    from luke_batch.config import JobConfig
    from luke_batch.distributed.preflight import _probe

    put(tmp_path / "in", "a.parquet", documents(2))
    source, output = Storage.at(str(tmp_path / "in")), Storage.at(str(tmp_path / "out"))
    job = JobConfig.model_validate({"models": {"main": {"path": str(multi_head_folder)}}})
    assert _probe(source, "a.parquet", output, job.to_json(), installed()) == []
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    away = JobConfig.model_validate({"models": {"main": {"path": "/not/mounted"}}})
    elsewhere = Storage.at(str(tmp_path / "elsewhere"))
    below = Storage.at(str(tmp_path / "file" / "out"))
    _each(
        _probe(elsewhere, "a.parquet", below, away.to_json(), installed()),
        "has no a.parquet there; mount it on every node",
        "is a file",
        "/not/mounted: no such model folder",
    )


def test_versions_of_a_node_are_compared_by_name() -> None:
    """One line names all that differ, and what is not there; builds of one version for CPU and GPU are alike."""
    driver = installed()
    assert other_versions(driver, dict(driver)) == []
    assert "+" not in driver["torch"]
    node = {name: each for name, each in driver.items() if name != "icu"} | {"torch": "1.0"}
    (line,) = other_versions(driver, node)
    assert line.startswith(f"it has icu none instead of {driver['icu']}, torch 1.0 instead of {driver['torch']};")
