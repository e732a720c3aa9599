"""After a finished run a glob over OUTPUT/data and `luke_batch.read` give the same rows; nothing is lost."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset

from luke_batch.corpus.leftovers import find_leftovers, tidy
from luke_batch.corpus.outcome import Outcome, reconcile, report_bad_files
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.reader import read
from luke_batch.corpus.storage import Storage
from tests.corpora import FINGERPRINT, context, documents, job, put, run

ANOTHER = "another"


def plan_of(folder: Path, fingerprint: str = FINGERPRINT, max_rows: int = 4, vanished: str = "keep") -> Plan:
    """The plan of folder/in against folder/out."""
    config = job(max_rows)
    settings = config.output.model_copy(update={"on_vanished": vanished})
    config = config.model_copy(update={"output": settings})
    return make_plan(str(folder / "in"), Storage.at(str(folder / "out")), config, fingerprint)


def night(folder: Path, fingerprint: str = FINGERPRINT, max_rows: int = 4, vanished: str = "keep") -> Outcome:
    """A whole run: plan, work, judge, sweep."""
    plan = plan_of(folder, fingerprint, max_rows, vanished)
    report_bad_files(plan, "run1")
    run(plan, context(fingerprint=fingerprint))
    return finish(plan)


def finish(plan: Plan) -> Outcome:
    """The end of a run."""
    outcome = reconcile(plan, "run1")
    tidy(plan.output, find_leftovers(plan, outcome))
    return outcome


def shown(folder: Path) -> list[str]:
    """Ids that `luke_batch.read` shows."""
    return sorted(read(str(folder / "out")).to_table(columns=["id"])["id"].to_pylist())


def globbed(folder: Path) -> list[str]:
    """Ids in all Parquet files of OUTPUT/data."""
    files = sorted(map(str, (folder / "out/data").rglob("*.parquet")))
    return sorted(dataset(files).to_table(columns=["id"])["id"].to_pylist())


def ids(*numbers: int) -> list[str]:
    """Ids of documents."""
    return sorted(f"d{number}" for number in numbers)


def outputs(folder: Path) -> set[str]:
    """Names of the output files."""
    return {path.name for path in (folder / "out/data").rglob("*.parquet")}


def corrupt(path: Path, text: str) -> None:
    """Damage the page that holds `text`, and leave the footer as it is."""
    content = path.read_bytes()
    assert content.count(text.encode()) == 1
    path.write_bytes(content.replace(text.encode(), bytes(len(text.encode()))))


def grouped(folder: Path, table: pa.Table) -> Path:
    """in/a.parquet in plain row groups of four rows, with page checksums."""
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    return put(folder, "in/a.parquet", table, row_group_size=4, write_page_checksum=True, **options)


def test_changed_file_is_replaced(tmp_path: Path) -> None:
    """Old rows are shown until the last new one is committed, then only new ones are there."""
    put(tmp_path, "in/a.parquet", documents(10))
    night(tmp_path)
    put(tmp_path, "in/a.parquet", documents(9, first=20))
    plan = plan_of(tmp_path)
    done = run(plan, context())
    lost = tmp_path / "out" / done[0].path
    lost.rename(tmp_path / "aside")
    assert not finish(plan).complete
    assert shown(tmp_path) == ids(*range(10))
    (tmp_path / "aside").rename(lost)
    finish(plan)
    assert shown(tmp_path) == globbed(tmp_path) == ids(*range(20, 29))


@pytest.mark.parametrize("vanished", ["keep", "prune"])
def test_vanished_file(tmp_path: Path, vanished: str) -> None:
    """keep: its outputs and dead letters stay; prune: both go at the end of a complete run."""
    put(tmp_path, "in/a.parquet", documents(5))
    path = put(tmp_path, "in/b.parquet", documents(5, first=5).set_column(1, "text", [["FAIL", "x", "y", "z", "w"]]))
    zero = tmp_path / "in/zero.parquet"
    zero.touch()
    night(tmp_path)
    path.unlink()
    zero.unlink()
    night(tmp_path, vanished=vanished)
    letters = [file.name for file in (tmp_path / "out/_dead_letters").iterdir()]
    assert len(letters) == (2 if vanished == "keep" else 0)
    assert shown(tmp_path) == globbed(tmp_path) == ids(*range(5), *(range(6, 10) if vanished == "keep" else ()))


def test_incomplete_run_prunes_nothing(tmp_path: Path) -> None:
    """As long as something is missing, outputs of vanished files stay whatever the configuration says."""
    put(tmp_path, "in/a.parquet", documents(5))
    gone = put(tmp_path, "in/b.parquet", documents(5, first=5))
    night(tmp_path)
    gone.unlink()
    put(tmp_path, "in/c.parquet", documents(1, first=10))
    plan = plan_of(tmp_path, vanished="prune")
    finish(plan)  # nothing of c is committed
    assert shown(tmp_path) == ids(*range(10))
    run(plan, context())
    finish(plan)
    assert shown(tmp_path) == ids(*range(5), 10)


def test_foreign_file_is_moved_aside(tmp_path: Path) -> None:
    """What no run has written is not read as ours, leaves OUTPUT/data, and is never removed."""
    put(tmp_path, "in/a.parquet", documents(3))
    night(tmp_path)
    ours = next((tmp_path / "out/data").iterdir())
    put(tmp_path, "out/data/theirs.parquet", documents(2, first=50))
    put(tmp_path, f"out/data/backup/{ours.name}", documents(3))
    assert shown(tmp_path) == ids(0, 1, 2)
    night(tmp_path)
    assert shown(tmp_path) == globbed(tmp_path) == ids(0, 1, 2)
    foreign = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out/_foreign").rglob("*.parquet"))
    assert foreign == [f"_foreign/backup/{ours.name}", "_foreign/theirs.parquet"]


@pytest.mark.parametrize("length", [0, 11, 400])
def test_torn_output_is_written_again(tmp_path: Path, length: int) -> None:
    """An output that lost its end commits nothing: the next run does its rows again, and only these."""
    put(tmp_path, "in/a.parquet", documents(10))
    night(tmp_path)
    torn = sorted((tmp_path / "out/data").iterdir())[1]
    torn.write_bytes(torn.read_bytes()[:length])
    plan = plan_of(tmp_path)
    assert [(f.row_start, f.row_end) for item in plan.items for f in item.fragments] == [(3, 6)]
    night(tmp_path)
    assert shown(tmp_path) == globbed(tmp_path) == ids(*range(10))


def test_torn_output_of_another_generation_is_removed(tmp_path: Path) -> None:
    """Nothing would ever write it again."""
    put(tmp_path, "in/a.parquet", documents(3))
    night(tmp_path)
    (whole,) = (tmp_path / "out/data").iterdir()
    night(tmp_path, ANOTHER)
    whole.write_bytes(b"PAR1")
    night(tmp_path, ANOTHER)
    assert not whole.exists()


def test_two_cuts_of_one_file(tmp_path: Path) -> None:
    """Two runs with other limits, side by side: every row is shown once, before and after the sweep."""
    put(tmp_path, "in/a.parquet", documents(20))
    plans = [plan_of(tmp_path, max_rows=rows) for rows in (4, 7, 3)]
    for plan in plans:
        run(plan, context())
    assert shown(tmp_path) == ids(*range(20))
    assert len(outputs(tmp_path)) > 7
    finish(plans[0])
    assert shown(tmp_path) == globbed(tmp_path) == ids(*range(20))
    assert plan_of(tmp_path, max_rows=5).nothing_to_do


def test_overlapping_parts_are_completed_without_double_rows(tmp_path: Path) -> None:
    """Two runs that both stopped half-way under other limits leave overlaps; the next run fills the rest."""
    put(tmp_path, "in/a.parquet", documents(20))
    for rows, kept in ((4, slice(2, 4)), (7, slice(1, 2))):
        done = run(plan_of(tmp_path, max_rows=rows), context())
        for each in done[: kept.start] + done[kept.stop :]:
            (tmp_path / "out" / each.path).unlink(missing_ok=True)
    assert len(outputs(tmp_path)) >= 2
    night(tmp_path, max_rows=5)
    assert shown(tmp_path) == globbed(tmp_path) == ids(*range(20))


def test_unreadable_part_of_a_changed_file(tmp_path: Path) -> None:
    """Its readable rows replace the old content, which is gone from INPUT; the rest is tried every night."""
    put(tmp_path, "in/a.parquet", documents(12))
    night(tmp_path)
    corrupt(grouped(tmp_path, documents(12, first=20)), "Łódź25")
    outcome = night(tmp_path)
    assert (outcome.complete, outcome.unreadable, outcome.dead_files) == (True, ("a.parquet",), 1)
    assert shown(tmp_path) == globbed(tmp_path) == ids(*range(20, 24), *range(28, 32))
    assert len(list((tmp_path / "out/_dead_letters").iterdir())) == 1
    again = plan_of(tmp_path)
    assert [(f.row_start, f.row_end) for item in again.items for f in item.fragments] == [(4, 8)]


def test_unreadable_part_of_a_stale_file(tmp_path: Path) -> None:
    """Complete annotations of the same content stay: nobody could make those of the damaged rows again."""
    path = grouped(tmp_path, documents(12))
    night(tmp_path)
    before = outputs(tmp_path)
    content = path.read_bytes()
    corrupt(path, "Łódź5")
    assert night(tmp_path, ANOTHER).unreadable == ("a.parquet",)
    assert outputs(tmp_path) == before
    path.write_bytes(content)
    night(tmp_path, ANOTHER)
    assert shown(tmp_path) == globbed(tmp_path) == ids(*range(12))
    assert not outputs(tmp_path) & before
    assert list((tmp_path / "out/_dead_letters").iterdir()) == []


def test_file_that_became_unusable_keeps_its_outputs(tmp_path: Path) -> None:
    """A truncated copy replaces nothing; its dead letter names it, and older letters of it go."""
    put(tmp_path, "in/a.parquet", documents(4))
    path = put(tmp_path, "in/b.parquet", documents(4, first=4))
    night(tmp_path)
    for size in (30, 20):
        path.write_bytes(path.read_bytes()[:size])
        night(tmp_path)
        assert shown(tmp_path) == globbed(tmp_path) == ids(*range(8))
        assert len(list((tmp_path / "out/_dead_letters").iterdir())) == 1


def test_abandoned_temporary_files_go(tmp_path: Path) -> None:
    """What a killed writer left is removed after an hour, and not while somebody may still write it."""
    import os

    put(tmp_path, "in/a.parquet", documents(4))
    night(tmp_path)
    old, young = (tmp_path / "out/_luke_batch/part" / name for name in ("old.part", "young.part"))
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    night(tmp_path)
    assert (old.exists(), young.exists()) == (False, True)


def test_outputs_stay_valid_parquet(tmp_path: Path) -> None:
    """Sweeping moves and removes whole files; what is left can be read."""
    put(tmp_path, "in/a.parquet", documents(10))
    night(tmp_path)
    night(tmp_path, ANOTHER)
    assert sum(pq.read_metadata(path).num_rows for path in (tmp_path / "out/data").iterdir()) == 10
