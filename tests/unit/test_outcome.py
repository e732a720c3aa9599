"""What a run has reached: judged on OUTPUT as it is."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from luke_batch.corpus.manifest import (
    RunManifest,
    new_run_id,
    read_manifests,
    without_secrets,
    write_manifest,
)
from luke_batch.corpus.outcome import Outcome, exit_code, reconcile, report_bad_files
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.storage import Storage
from tests.corpora import FINGERPRINT, context, documents, job, put, run
from tests.unit.test_plan import sweep

NOW = datetime(2026, 11, 20, 3, 4, 5, tzinfo=UTC)


def plan_of(folder: Path) -> Plan:
    """The plan of folder/in against folder/out."""
    return make_plan(str(folder / "in"), Storage.at(str(folder / "out")), job(), FINGERPRINT)


def test_complete(tmp_path: Path) -> None:
    """Everything committed: complete, with the documents and dead letters counted."""
    put(tmp_path, "in/a.parquet", documents(10).set_column(1, "text", [["FAIL"] + ["x"] * 9]))
    plan = plan_of(tmp_path)
    assert not reconcile(plan, "run1").complete
    run(plan, context())
    assert reconcile(plan, "run1") == Outcome(3, 10, 1, 0, ())


def test_missing_fragments_are_named(tmp_path: Path) -> None:
    """A fragment that is not committed makes the run incomplete and is named with its rows."""
    put(tmp_path, "in/a.parquet", documents(10))
    put(tmp_path, "in/empty.parquet", documents(0))
    plan = plan_of(tmp_path)
    done = run(plan, context())
    for lost in (done[1], done[-1]):
        (tmp_path / "out" / lost.path).unlink()
    outcome = reconcile(plan, "run1")
    assert outcome.missing == ("a.parquet rows 3-6", "empty.parquet rows 0-0")
    assert exit_code(outcome, 1.0) == 4


def test_unreadable_file_is_accounted_for_by_this_run_only(tmp_path: Path) -> None:
    """A letter of this run for a file accounts for its fragments; that of an earlier run does not."""
    path = put(tmp_path, "in/a.parquet", documents(10))
    put(tmp_path, "in/b.parquet", documents(2))
    plan = plan_of(tmp_path)
    path.unlink()
    run(plan, context())
    outcome = reconcile(plan, "run1")
    assert (outcome.complete, outcome.dead_files) == (True, 1)
    assert len(reconcile(plan, "run2").missing) == 1


def test_bad_files_count_as_dead_letters(tmp_path: Path) -> None:
    """A file that planning found bad is one dead letter, on every later night as well."""
    put(tmp_path, "in/a.parquet", documents(10))
    (tmp_path / "in/zero.parquet").write_bytes(b"")
    plan = plan_of(tmp_path)
    run(plan, context())
    assert reconcile(plan, "run1").missing == ("zero.parquet (its dead letter)",)
    report_bad_files(plan, "run1")
    sweep(plan)
    later = plan_of(tmp_path)
    assert later.nothing_to_do
    outcome = reconcile(later, "run2")
    assert (outcome.complete, outcome.dead_letters) == (True, 1)
    assert exit_code(outcome, 0.01) == 3
    assert exit_code(outcome, 1) == 0


@pytest.mark.parametrize(
    ("dead", "budget", "expected"),
    [(0, 0, 0), (1, 0, 3), (1, 0.01, 0), (2, 0.01, 3), (1, 1, 0), (2, 1, 3), (5, 5.0, 0), (100, 0.999, 3)],
)
def test_error_budget(dead: int, budget: float, expected: int) -> None:
    """Below 1 the budget is a share of 100 documents, from 1 on a count."""
    assert exit_code(Outcome(1, 100, dead, 0, ()), budget) == expected


def test_letters_of_other_generations_do_not_count(tmp_path: Path) -> None:
    """Dead letters of an older content or fingerprint are not those of this state."""
    put(tmp_path, "in/a.parquet", documents(2).set_column(1, "text", [["FAIL", "x"]]))
    run(plan_of(tmp_path), context())
    put(tmp_path, "in/a.parquet", documents(2))
    plan = plan_of(tmp_path)
    run(plan, context())
    assert reconcile(plan, "run1").dead_letters == 0
    assert len(list((tmp_path / "out/_dead_letters").iterdir())) == 1
    sweep(plan)
    assert list((tmp_path / "out/_dead_letters").iterdir()) == []


def test_manifest(tmp_path: Path) -> None:
    """A manifest comes back as it was written, without the passwords of URLs."""
    put(tmp_path, "in/a.parquet", documents(3))
    plan = plan_of(tmp_path)
    config = {"models": {"main": {"path": "https://me:secret@host/model"}}}
    first = RunManifest.start(new_run_id(NOW), str(tmp_path / "in"), plan, config, NOW)
    write_manifest(plan.output, first)
    run(plan, context())
    last = first.finish(reconcile(plan, "run1"), 0, NOW)
    write_manifest(plan.output, last)
    (found,) = read_manifests(plan.output)
    assert found == last
    assert found.planned["new"] == {
        "files": 1,
        "fragments": 1,
        "rows": 3,
        "bytes": found.planned["new"]["bytes"],
    }
    assert found.outcome is not None
    assert found.outcome["complete"]
    assert found.config["models"]["main"]["path"] == "https://host/model"
    text = (tmp_path / "out/_luke_batch/runs" / f"{first.run_id}.json").read_text()
    assert "secret" not in text
    assert json.loads(text)["started"] == "2026-11-20T03:04:05+00:00"


def test_run_ids() -> None:
    """Run ids sort by time, also within a second, and differ at one instant."""
    moments = [NOW + timedelta(microseconds=number) for number in (1, 2, 999_999, 1_000_000)]
    ids = [new_run_id(moment) for moment in moments]
    assert ids == sorted(ids)
    assert new_run_id(NOW) != new_run_id(NOW)
    assert new_run_id(NOW).startswith("20261120T030405Z-")
    assert without_secrets("s3://bucket/a@b") == "s3://bucket/a@b"
