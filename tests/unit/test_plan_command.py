"""`luke-batch plan`: what it says, and that it touches nothing."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from luke_batch import cli
from luke_batch.base.errors import OutputError
from luke_batch.config import JobConfig, OutputConfig
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.manifest import RunManifest, forecast, write_manifest
from luke_batch.corpus.outcome import Outcome
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.planning import prepare
from tests.corpora import context, documents, put, run

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus of two days, of which the first is committed under the default configuration."""
    put(tmp_path, "in/date=1/a.parquet", documents(8))
    plan = prepare(str(tmp_path / "in"), str(tmp_path / "out"), JobConfig()).plan
    run(plan, context(fingerprint=plan.fingerprint))
    put(tmp_path, "in/date=2/a.parquet", documents(4, first=8))
    return tmp_path


def planned(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What the command prints; it must end well."""
    code = cli.run(["plan", str(folder / "in"), str(folder / "out"), *options])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def ended(plan: Plan, run_id: str, documents: int, seconds: float, fingerprint: str | None = None) -> None:
    """Write the manifest of a finished run."""
    manifest = RunManifest.start(run_id, "in", plan, {}, NOW).finish(Outcome(1, 1, 0, 0, ()), 0, NOW)
    manifest.figures["documents"] = documents
    manifest.durations["annotate"] = seconds
    if fingerprint is not None:
        manifest = replace(manifest, fingerprint=fingerprint)
    write_manifest(plan.output, manifest)


def test_counts_and_forecast(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files, fragments, documents and bytes of each state; without a finished run no forecast is made up."""
    before = sorted(corpus.rglob("*"))
    out = planned(corpus, capsys)
    lines = {line.split()[0]: line.split()[1:4] for line in out.splitlines() if line}
    assert lines["new"] == ["1", "1", "4"]
    assert lines["done"] == ["1", "1", "8"]
    assert "to do: 4 documents in 1 work items; no forecast" in out
    assert sorted(corpus.rglob("*")) == before


def test_json(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object with the same figures, for programs."""
    found = json.loads(planned(corpus, capsys, "--json", "--where", "date=2", "--set", "output.max_rows=2"))
    assert found["states"]["new"] == {
        "files": 1, "fragments": 2, "rows": 4, "bytes": found["todo"]["bytes"],
    }  # fmt: skip
    assert found["states"]["done"]["files"] == found["states"]["vanished"]["files"] == 0
    assert (found["where"], found["forecast"], found["running"]) == ({"date": ["2"]}, None, None)
    assert not found["nothing_to_do"]


def test_states(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Changed, stale, vanished and bad files are told apart, and the fate of vanished ones is named."""
    put(corpus, "in/date=1/a.parquet", documents(9))
    (corpus / "in/zero.parquet").touch()
    out = planned(corpus, capsys)
    assert [line.split()[0] for line in out.splitlines()[1:6]] == ["new", "changed", "stale", "done", "bad"]
    assert "bad: zero.parquet is empty (zero bytes)" in out
    (corpus / "in/date=1/a.parquet").unlink()
    assert "vanished: outputs are kept" in planned(corpus, capsys, "--set", "output.vanished_limit=1")
    assert "removed at the end" in planned(corpus, capsys, "--set", "output.on_vanished=prune", "--confirm-vanished")
    (corpus / "in/date=1").rmdir()
    put(corpus, "in/date=1/a.parquet", documents(8))
    stale = json.loads(planned(corpus, capsys, "--json", "--set", "heads.0.decode=nested"))
    assert stale["states"]["stale"]["rows"] == 8


def test_nothing_to_do(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so; the other options of `annotate` are legal."""
    assert planned(corpus, capsys, "--where", "date=1").splitlines()[-1] == "nothing to do"
    assert planned(corpus, capsys, "--address", "head:6379", "--quiet") == ""


def test_run_under_way_is_named(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Planning is allowed meanwhile."""
    with Lease(Storage.at(str(corpus / "out")), "the-other", 60) as lease:
        lease.take()
        assert "in use: run the-other" in planned(corpus, capsys)


def test_forecast_prefers_a_run_that_did_the_same(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest finished run of this fingerprint; else the newest at all, and then the reader is warned."""
    plan = prepare(str(corpus / "in"), str(corpus / "out"), JobConfig()).plan
    ended(plan, "20261118T000000Z-a", 0, 1.0)
    assert forecast(plan) is None
    ended(plan, "20261119T000000Z-b", 100, 10.0, fingerprint="other")
    found = forecast(plan)
    assert found is not None
    assert (found.seconds, found.documents_per_second, found.same_fingerprint) == (0.4, 10.0, False)
    assert "which had another model or settings" in planned(corpus, capsys)
    ended(plan, "20261117T000000Z-c", 30, 60.0)
    found = forecast(plan)
    assert found is not None
    assert (found.seconds, found.run_id, found.same_fingerprint) == (8.0, "20261117T000000Z-c", True)
    assert "about 8 s at the 0.5 documents a second of run 20261117T000000Z-c (30 documents" in planned(corpus, capsys)


@pytest.mark.parametrize("options", [["--where", "day=1"], ["--set", "heads.0.decod=x"]])
def test_what_annotate_would_refuse(corpus: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one line."""
    assert cli.run(["plan", str(corpus / "in"), str(corpus / "out"), *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_pruning_for_another_corpus_is_refused(tmp_path: Path) -> None:
    """An INPUT that shares no file with OUTPUT, and is not where OUTPUT came from, must not empty it."""
    config = JobConfig(output=OutputConfig(on_vanished="prune"))
    put(tmp_path, "in/a.parquet", documents(2))
    put(tmp_path, "other/b.parquet", documents(2))
    output = str(tmp_path / "out")
    plan = prepare(str(tmp_path / "in"), output, config).plan
    run(plan, context(fingerprint=plan.fingerprint))
    ended(plan, "20261118T000000Z-a", 2, 1.0)
    manifest = RunManifest.start("20261119T000000Z-b", str(tmp_path / "in"), plan, {}, NOW)
    write_manifest(plan.output, manifest.finish(Outcome(1, 2, 0, 0, ()), 0, NOW))
    with pytest.raises(OutputError, match=r"made from .*/in, of which INPUT .*/other has no file"):
        prepare(str(tmp_path / "other"), output, config)
    assert prepare(str(tmp_path / "other"), output, JobConfig()).plan.tallies["vanished"].files == 1
    (tmp_path / "in/a.parquet").rename(tmp_path / "in/renamed.parquet")
    assert prepare(str(tmp_path / "in"), output, config).plan.tallies["vanished"].files == 1


def test_plan_loads_neither_torch_nor_ray(corpus: Path) -> None:
    """In a process of its own, with the whole of the checks."""
    code = (
        "import sys; from luke_batch.cli import run;"
        f"code = run(['plan', {str(corpus / 'in')!r}, {str(corpus / 'out')!r}]);"
        "sys.exit(code or len({'ray', 'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_compact_command(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what became fewer; an OUTPUT without files is refused."""
    plan = make_plan(
        str(corpus / "in"),
        Storage.at(str(corpus / "out")),
        JobConfig(output=OutputConfig(max_rows=1)),
        prepare(str(corpus / "in"), str(corpus / "out"), JobConfig()).plan.fingerprint,
    )
    run(plan, context(fingerprint=plan.fingerprint))
    assert cli.run(["compact", str(corpus / "out")]) == 0
    assert "5 files -> 2; outputs of 1 source files merged" in capsys.readouterr().out
    assert cli.run(["compact", str(corpus / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["after"] == 2
    assert cli.run(["compact", str(corpus / "nowhere")]) == 2
