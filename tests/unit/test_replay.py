"""What `replay` does again, and what it leaves alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from luke_batch import cli
from luke_batch.config import InputConfig
from luke_batch.config.loading import load_config
from luke_batch.corpus.committed import list_output
from luke_batch.corpus.compaction import compact
from luke_batch.corpus.fragments import Fragment
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.leftovers import tidy
from luke_batch.corpus.manifest import latest_manifest, write_manifest
from luke_batch.corpus.outcome import Outcome
from luke_batch.corpus.plan import Plan
from luke_batch.corpus.read import read_item
from luke_batch.corpus.reader import read
from luke_batch.corpus.replay import Replay, judge_replay, plan_replay
from luke_batch.corpus.storage import Storage
from luke_batch.distributed import run as runner
from tests import run_without_ray
from tests.corpora import WRITTEN, annotate, commit, context, documents, job, put
from tests.unit.test_plan import finish, plan_of


def failing(count: int, first: int, *rows: int) -> pa.Table:
    """Documents of which some fail."""
    table = documents(count, first=first)
    texts = ["FAIL" if row in rows else text.as_py() for row, text in enumerate(table["text"])]
    return table.set_column(1, "text", [texts])


def lenient(table: pa.Table, config: InputConfig | None = None, written: Sequence[str] = WRITTEN) -> pa.Table:
    """As `tests.corpora.annotate`, on a night on which nothing fails."""
    texts = [(text or "").replace("FAIL", "GOOD") for text in table["text"].to_pylist()]
    place = table.schema.get_field_index("text")
    return annotate(table.set_column(place, "text", [texts]), config, written)


def replay_of(plan: Plan, max_rows: int = 4) -> Replay:
    """The replay of what OUTPUT has."""
    return plan_replay(plan, list_output(plan.output), job(max_rows).output)


def parts(replay: Replay) -> list[tuple[str, int, int]]:
    """Source and rows of what is done again."""
    fragments = [fragment for item in replay.plan.items for fragment in item.fragments]
    return [(fragment.source, fragment.row_start, fragment.row_end) for fragment in fragments]


def work(replay: Replay, left_out: Sequence[Fragment] = ()) -> Outcome:
    """Do it, but for items with the fragments `left_out`; then judge and tidy."""
    run2 = context(run_id="run2")
    for item in replay.plan.items:
        if not set(item.fragments) & set(left_out):
            commit(replay.plan, read_item(replay.plan.source, item, run2.input), run2, lenient)
    outcome, leftovers = judge_replay(replay, "run2", list_output(replay.plan.output))
    tidy(replay.plan.output, leftovers)
    return outcome


def times(folder: Path) -> dict[str, int]:
    """Every file of OUTPUT -> when it was written."""
    out = folder / "out"
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("*.parquet")}


def shown(folder: Path) -> int:
    """Documents that a reader sees."""
    return read(str(folder / "out")).count_rows()


def test_fragments_with_letters_and_nothing_else(tmp_path: Path) -> None:
    """Exactly the fragments with dead letters are done again; letters go with their reason, others stay."""
    put(tmp_path, "in/date=1/a.parquet", failing(10, 0, 4))
    put(tmp_path, "in/date=2/b.parquet", documents(3, first=10))
    finish(plan_of(tmp_path))
    before = times(tmp_path)
    replay = replay_of(plan_of(tmp_path))
    assert parts(replay) == [("date=1/a.parquet", 3, 6)]
    fragment = replay.plan.items[0].fragments[0]
    assert (fragment.group_start, fragment.partition, fragment.file_rows) == (0, "date=1", 10)
    assert (replay.plan.tallies["replayed"].rows, replay.notes) == (3, ())
    assert shown(tmp_path) == 12
    assert work(replay) == Outcome(4, 13, 0, 0, ())
    after = times(tmp_path)
    changed = {name for name in before if after.get(name) != before[name]}
    assert len(changed) == 2, "the output of the fragment, and its letter"
    assert sum("_dead_letters" in name for name in after) == 0
    assert shown(tmp_path) == 13
    assert parts(replay_of(plan_of(tmp_path))) == []


def test_a_fragment_that_was_not_done_again_is_missing(tmp_path: Path) -> None:
    """It keeps its output and its letter until the new one is committed; the replay is incomplete."""
    put(tmp_path, "in/a.parquet", failing(8, 0, 1, 6))
    finish(plan_of(tmp_path))
    replay = replay_of(plan_of(tmp_path))
    before = times(tmp_path)
    outcome = work(replay, replay.plan.items[1].fragments)
    assert outcome.missing == ("a.parquet rows 4-8",)
    assert outcome.dead_documents == 1
    after = times(tmp_path)
    assert sum(after.get(name) != when for name, when in before.items()) == 2
    assert parts(replay_of(plan_of(tmp_path))) == [("a.parquet", 4, 8)]


def test_a_file_that_could_not_be_read(tmp_path: Path) -> None:
    """Its missing fragments are done again; still unreadable, it keeps one letter, of this run."""
    path = put(tmp_path, "in/a.parquet", documents(6), row_group_size=3)
    put(tmp_path, "in/b.parquet", documents(3, first=6))
    whole = path.read_bytes()
    torn = bytearray(whole)
    torn[4:60] = bytes(56)
    path.write_bytes(torn)
    finish(plan_of(tmp_path, max_rows=3))
    assert shown(tmp_path) == 6
    replay = replay_of(plan_of(tmp_path, max_rows=3))
    assert parts(replay) == [("a.parquet", 0, 3)]
    outcome = work(replay)
    assert (outcome.dead_files, outcome.unreadable, outcome.missing) == (1, ("a.parquet",), ())
    path.write_bytes(whole)
    assert work(replay_of(plan_of(tmp_path, max_rows=3))) == Outcome(3, 9, 0, 0, ())
    assert sum("_dead_letters" in name for name in times(tmp_path)) == 0


def test_an_unreadable_fragment_keeps_what_is_committed(tmp_path: Path) -> None:
    """Where the page has been damaged since, the output of before and all letters stay: it is missing."""
    path = put(tmp_path, "in/a.parquet", failing(4, 0, 1))
    finish(plan_of(tmp_path))
    torn = bytearray(path.read_bytes())
    torn[4:60] = bytes(56)
    path.write_bytes(torn)
    outcome = work(replay_of(plan_of(tmp_path)))
    assert outcome.missing == ("a.parquet rows 0-4",)
    assert sum("_dead_letters" in name for name in times(tmp_path)) == 2
    assert shown(tmp_path) == 3


def test_a_bad_file_that_was_mended(tmp_path: Path) -> None:
    """A file with a letter as a whole is annotated once it can be used, and its old letter goes; one that
    still cannot keeps its letter. A new file is left to `annotate`.
    """
    put(tmp_path, "in/a.parquet", documents(2))
    (tmp_path / "in/b.parquet").write_bytes(b"PAR1")
    (tmp_path / "in/c.parquet").touch()
    finish(plan_of(tmp_path))
    put(tmp_path, "in/b.parquet", documents(5, first=2))
    put(tmp_path, "in/new.parquet", documents(5, first=7))
    replay = replay_of(plan_of(tmp_path))
    assert {source for source, _, _ in parts(replay)} == {"b.parquet"}
    assert [bad.path for bad in replay.plan.bad] == ["c.parquet"]
    outcome = work(replay)
    assert (outcome.dead_files, outcome.documents, outcome.complete) == (1, 7, True)
    assert sum("_dead_letters" in name for name in times(tmp_path)) == 1


def test_a_merged_fragment(tmp_path: Path) -> None:
    """After `compact` the merged rows are one fragment, and done again as one."""
    put(tmp_path, "in/a.parquet", failing(8, 0, 1))
    finish(plan_of(tmp_path))
    storage = Storage.at(str(tmp_path / "out"))
    with Lease(storage, "compact", 60) as lease:
        compact(storage, lease, 10**6)
    replay = replay_of(plan_of(tmp_path))
    assert parts(replay) == [("a.parquet", 0, 8)]
    assert work(replay) == Outcome(1, 8, 0, 0, ())


def test_letters_that_are_not_replayed_are_named(tmp_path: Path) -> None:
    """Those of files that have changed or are gone, which nothing touches."""
    put(tmp_path, "in/a.parquet", failing(4, 0, 1))
    put(tmp_path, "in/b.parquet", failing(4, 4, 1))
    put(tmp_path, "in/c.parquet", documents(1, first=8))
    finish(plan_of(tmp_path))
    put(tmp_path, "in/a.parquet", documents(4))
    (tmp_path / "in/b.parquet").unlink()
    before = times(tmp_path)
    replay = replay_of(plan_of(tmp_path))
    assert parts(replay) == []
    assert [note.split(":")[0].split(" are ")[0] for note in replay.notes] == [
        "dead letters of 1 files", "dead letters of 1 files that",
    ]  # fmt: skip
    work(replay)
    assert times(tmp_path) == before


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus that a whole run has annotated, Ray and models replaced, with one dead letter of five."""
    monkeypatch.setattr(runner, "_annotate_items", run_without_ray.annotate_items)
    put(tmp_path, "in/a.parquet", failing(4, 0, 1))
    put(tmp_path, "in/b.parquet", documents(1, first=4))
    monkeypatch.chdir(tmp_path)
    assert cli.run(["annotate", "in", "out", "--quiet", "--set", "models.main.actors=2"]) == 3
    return tmp_path


def test_command(corpus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """From any folder: INPUT and settings are those of the last run, and the exit code is that of OUTPUT."""
    monkeypatch.chdir("/")
    out = str(corpus / "out")
    assert cli.run(["replay", out]) == 3
    found = capsys.readouterr().out
    assert "5 in INPUT (4 replayed)" in found
    assert "more than output.error_budget allows" in found
    assert cli.run(["replay", out, "--set", "output.error_budget=1", "--quiet"]) == 0
    last = latest_manifest(Storage.at(out), lambda _: True)
    assert last is not None
    assert (last.command, last.input, last.config["models"]["main"]["actors"]) == (
        "replay",
        str(corpus / "in"),
        2,
    )
    assert last.forecast is None
    monkeypatch.setattr(run_without_ray, "annotate", lenient)
    capsys.readouterr()
    assert cli.run(["replay", out, "--quiet"]) == 0
    assert cli.run(["replay", out]) == 0
    assert capsys.readouterr().out == "Nothing to replay: OUTPUT has no dead letters.\n"


def test_what_is_refused(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other results, an INPUT that is gone, an OUTPUT without a run: one line, exit 2, nothing written."""
    out = str(corpus / "out")
    before = times(corpus)
    assert cli.run(["replay", out, "--set", "heads.0.decode=nested"]) == 2
    assert "run `luke-batch annotate` instead" in (err := capsys.readouterr().err)
    assert err.count("\n") == 1
    (corpus / "in").rename(corpus / "moved")
    assert cli.run(["replay", out]) == 2
    assert "--input names INPUT anew" in capsys.readouterr().err
    assert cli.run(["replay", str(corpus / "nowhere")]) == 2
    assert "has no finished run" in capsys.readouterr().err
    assert times(corpus) == before
    assert cli.run(["replay", out, "--input", str(corpus / "moved"), "--quiet"]) == 3


def test_passwords_are_not_needed_to_know_input(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A manifest keeps a URL without them; the hint says how to give it again."""
    storage = Storage.at(str(corpus / "out"))
    last = latest_manifest(storage, lambda _: True)
    assert last is not None
    write_manifest(storage, replace(last, run_id="29991231T000000Z-a", input="memory://bucket/in"))
    assert cli.run(["replay", str(corpus / "out")]) == 2
    assert "keeps no user and password" in capsys.readouterr().err


def test_settings_of_a_run_are_the_base() -> None:
    """What a run had counts unless it is set again."""
    config = job(7).model_dump(mode="json")
    found = load_config(None, ["output.error_budget=2"], {}, config)
    assert (found.output.max_rows, found.output.error_budget) == (7, 2)
