"""A corpus that was overwritten under new names stops the night, until somebody has confirmed it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from luke_batch import cli
from luke_batch.base.errors import IncompleteError
from luke_batch.config import JobConfig, OutputConfig
from luke_batch.corpus.manifest import RunManifest, read_manifests, write_manifest
from luke_batch.corpus.outcome import Outcome
from luke_batch.corpus.plan import Plan
from luke_batch.corpus.storage import Storage
from luke_batch.corpus.vanished import find_vanished
from luke_batch.distributed.planning import prepare
from luke_batch.distributed.run import annotate
from luke_batch.report.figures import collect
from tests.corpora import context, documents, put, run

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def job(**output: object) -> JobConfig:
    """The default job with other settings of `output`."""
    return JobConfig(output=OutputConfig.model_validate(output))


def plan_of(folder: Path, **output: object) -> Plan:
    """The plan of folder/in against folder/out."""
    return prepare(str(folder / "in"), str(folder / "out"), job(**output)).plan


def night(folder: Path, number: int, **output: object) -> Plan:
    """Do what is to be done, with a manifest."""
    plan = plan_of(folder, **output)
    run(plan, context(fingerprint=plan.fingerprint))
    config = job(**output).model_dump(mode="json")
    manifest = RunManifest.start(f"2026112{number}T000000Z-a", str(folder / "in"), plan, config, NOW)
    write_manifest(plan.output, manifest.finish(Outcome(1, 2, 0, 0, ()), 0, NOW))
    return plan


def overwrite(folder: Path, name: str) -> None:
    """What Spark does in this mode: the same documents in files of other names."""
    for number, path in enumerate(sorted((folder / "in").glob("*.parquet"))):
        path.rename(folder / "in" / f"part-{number}-{name}.parquet")


def everything(folder: Path) -> dict[Path, int]:
    """Every file of OUTPUT with its time."""
    return {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*") if path.is_file()}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two files of five documents, annotated."""
    for number in range(2):
        put(tmp_path, f"in/part-{number}-first.parquet", documents(5, first=5 * number))
    night(tmp_path, 1)
    return tmp_path


@pytest.mark.parametrize("fate", ["keep", "prune"])
def test_overwrite_stops_the_night(corpus: Path, fate: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4 with a line that names the cure, and nothing is written; `plan` says the same.

    Today's outcome: `keep` showed all documents twice, `prune` removed all outputs, both with exit code 0.
    """
    overwrite(corpus, "second")
    before = everything(corpus)
    arguments = [str(corpus / "in"), str(corpus / "out"), "--set", f"output.on_vanished={fate}"]
    for command in ("annotate", "plan"):
        assert cli.run([command, *arguments]) == 4
        message = capsys.readouterr().err
        assert "10 of 10 documents in OUTPUT (100%) are of source files that INPUT no longer has" in message
        assert "--confirm-vanished" in message
    assert everything(corpus) == before
    assert cli.run(["plan", *arguments, "--json"]) == 4
    found = json.loads(capsys.readouterr().out)["vanished"]
    assert found == {"rows": 10, "fresh": 10, "committed": 10, "share": 1.0, "limit": 0.5, "stops": True}
    assert cli.run(["plan", *arguments, "--confirm-vanished"]) == 0
    assert "WARNING: 10 of 10 documents" in capsys.readouterr().out


def test_share_is_of_the_documents_in_output(corpus: Path) -> None:
    """Half of them may go under the default limit, and are told all the same; a stale output counts once."""
    (corpus / "in/part-1-first.parquet").unlink()
    found = find_vanished(plan_of(corpus))
    assert found is not None
    assert (found.rows, found.committed, found.share, found.stops) == (5, 10, 0.5, False)
    found = find_vanished(plan_of(corpus, vanished_limit=0.4))
    assert found is not None
    with pytest.raises(IncompleteError, match=r"5 of 10 documents in OUTPUT \(50%\)"):
        found.refuse()
    other = plan_of(corpus)
    run(replace(other, items=()), context(fingerprint="another"))
    assert other.committed_rows == 10


def test_what_was_kept_is_not_asked_for_again(corpus: Path) -> None:
    """A window of days that moves on leaves more in OUTPUT than INPUT has; but `prune` asks about all of it."""
    overwrite(corpus, "second")
    night(corpus, 2)
    found = find_vanished(plan_of(corpus))
    assert found is not None
    assert (found.rows, found.fresh, found.committed, found.stops) == (10, 0, 20, False)
    overwrite(corpus, "third")
    night(corpus, 3)
    overwrite(corpus, "fourth")
    again = find_vanished(plan_of(corpus))
    assert again is not None
    assert (again.rows, again.fresh, again.committed) == (30, 10, 30)
    found = find_vanished(plan_of(corpus, on_vanished="prune"))
    assert found is not None
    assert (found.fresh, found.stops) == (30, True)


def test_confirmed_without_work(corpus: Path) -> None:
    """A night with nothing to do is recorded where it was confirmed, so that the next one goes on unasked."""
    put(corpus, "in/part-2-first.parquet", documents(2, first=10))
    night(corpus, 2)
    for number in range(2):
        (corpus / f"in/part-{number}-first.parquet").unlink()
    arguments = (str(corpus / "in"), str(corpus / "out"), JobConfig())
    with pytest.raises(IncompleteError, match="10 of 12 documents"):
        annotate(*arguments)
    report = annotate(*arguments, confirm_vanished=True)
    assert (report.exit_code, report.nothing_to_do) == (0, True)
    assert "10 of 12 documents in OUTPUT (83%)" in report.warnings[0]
    assert annotate(*arguments).warnings == []
    output = Storage.at(str(corpus / "out"))
    assert len(read_manifests(output)) == 3
    assert "OUTPUT held 10 documents of 2 source files that INPUT no longer had" in " ".join(
        collect(output, samples=False).notes
    )
