"""What a run has to do, and what it removes afterwards."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from luke_batch.base.errors import InputError, OutputError
from luke_batch.config import InputConfig
from luke_batch.corpus.leftovers import find_leftovers, tidy
from luke_batch.corpus.outcome import reconcile, report_bad_files
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.read import read_item
from luke_batch.corpus.storage import Storage
from tests.corpora import FINGERPRINT, context, documents, job, put, run


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two partitions and a file at the top: 10 + 3 + 5 documents."""
    put(tmp_path, "in/a.parquet", documents(10))
    put(tmp_path, "in/date=1/b.parquet", documents(3))
    put(tmp_path, "in/date=2/b.parquet", documents(5))
    return tmp_path


def plan_of(folder: Path, fingerprint: str = FINGERPRINT, max_rows: int = 4) -> Plan:
    """The plan of folder/in against folder/out."""
    return make_plan(str(folder / "in"), Storage.at(str(folder / "out")), job(max_rows), fingerprint)


def test_small_files_are_work_for_several_actors(tmp_path: Path) -> None:
    """40 files of 20 rows fit one item, and are none."""
    for number in range(40):
        put(tmp_path, f"in/{number}.parquet", documents(20))
    plan = plan_of(tmp_path, max_rows=1000)
    assert [item.rows for item in plan.items] == [20] * 40


def finish(plan: Plan, fingerprint: str = FINGERPRINT) -> list[str]:
    """Do everything that `plan` asks for and sweep; the removed paths."""
    report_bad_files(plan, "run1")
    run(plan, context(fingerprint=fingerprint))
    return sweep(plan)


def sweep(plan: Plan, run_id: str = "run1") -> list[str]:
    """Remove what is superseded; the removed paths."""
    leftovers = find_leftovers(plan, reconcile(plan, run_id))
    tidy(plan.output, leftovers)
    return leftovers.removable


def rows(plan: Plan) -> dict[str, int]:
    """Rows by state, where there are any."""
    return {state: tally.rows for state, tally in plan.tallies.items() if tally.rows}


def todo(plan: Plan) -> list[tuple[str, int, int]]:
    """What is to be done, by source and rows."""
    return [(f.source, f.row_start, f.row_end) for item in plan.items for f in item.fragments]


def outputs(folder: Path) -> list[str]:
    """Committed files, relative to OUTPUT/data."""
    data = folder / "out" / "data"
    return sorted(str(path.relative_to(data)) for path in data.rglob("*.parquet"))


def test_new_corpus(corpus: Path) -> None:
    """Everything is new; items keep to one partition; nothing is written."""
    plan = plan_of(corpus)
    assert rows(plan) == {"new": 18}
    assert plan.tallies["new"].files == 3
    assert plan.tallies["new"].fragments == 6
    assert [f.source for f in plan.items[-1].fragments] == ["date=2/b.parquet"]
    assert all(len({f.partition for f in item.fragments}) == 1 for item in plan.items)
    assert not plan.nothing_to_do
    assert not (corpus / "out").exists()


def test_second_plan_has_nothing_to_do(corpus: Path) -> None:
    """What is committed is done, in the partition of its source."""
    finish(plan_of(corpus))
    plan = plan_of(corpus)
    assert plan.nothing_to_do
    assert rows(plan) == {"done": 18}
    assert plan.tallies["done"].fragments == len(outputs(corpus)) == 6
    assert [path.rpartition("/")[0] for path in outputs(corpus)][-3:] == ["date=1", "date=2", "date=2"]


def test_another_cut_of_a_done_file_is_done(corpus: Path) -> None:
    """Other limits do not redo what is committed; a half-done file gets what is left, no row twice."""
    finish(plan_of(corpus))
    assert plan_of(corpus, max_rows=7).nothing_to_do
    for path in outputs(corpus)[:2]:
        (corpus / "out" / "data" / path).unlink()
    plan = plan_of(corpus, max_rows=7)
    assert sum(end - start for _, start, end in todo(plan)) == plan.tallies["new"].rows > 0
    finish(plan)
    assert reconcile(plan, "run1").complete
    assert plan_of(corpus).nothing_to_do


def test_changed_stale_new_and_vanished(corpus: Path) -> None:
    """Each file gets its own state; sweeping removes what is superseded and nothing else."""
    finish(plan_of(corpus))
    before = outputs(corpus)
    put(corpus, "in/date=1/b.parquet", documents(4, first=50))
    put(corpus, "in/date=3/c.parquet", documents(2))
    (corpus / "in/date=2/b.parquet").unlink()
    plan = plan_of(corpus)
    assert rows(plan) == {"new": 2, "changed": 4, "done": 10, "vanished": 5}
    removed = finish(plan)
    assert len(removed) == 1
    assert removed[0].startswith("data/date=1/")
    assert [path for path in before if path.startswith("date=2/")] == [p for p in outputs(corpus) if "date=2" in p]
    stale = plan_of(corpus, fingerprint="another")
    assert rows(stale) == {"stale": 16, "vanished": 5}
    finish(stale, fingerprint="another")
    assert rows(plan_of(corpus, fingerprint="another")) == {"done": 16, "vanished": 5}


def test_superseded_outputs_wait_for_their_whole_replacement(corpus: Path) -> None:
    """As long as one fragment of the new generation is missing, the old one stays complete."""
    finish(plan_of(corpus))
    before = outputs(corpus)
    plan = plan_of(corpus, fingerprint="another")
    removed = run(plan, context(fingerprint="another"))
    (corpus / "out" / removed[0].path).unlink()
    swept = sweep(plan)
    assert removed[0].source == "a.parquet"
    assert swept
    assert all(path.startswith("data/date=") for path in swept)
    assert {path for path in before if "/" not in path} <= set(outputs(corpus))


def test_sweep_after_a_stop_between_commit_and_sweep(corpus: Path) -> None:
    """A plan with nothing to annotate still knows what is superseded."""
    finish(plan_of(corpus))
    run(plan_of(corpus, fingerprint="another"), context(fingerprint="another"))
    plan = plan_of(corpus, fingerprint="another")
    assert plan.nothing_to_do
    assert len(sweep(plan)) == 6
    assert sweep(plan) == []


def test_bad_files_among_good_ones(corpus: Path) -> None:
    """Files that cannot be read or lack a column are reported with name and cause; the rest is planned."""
    (corpus / "in/zero.parquet").write_bytes(b"")
    (corpus / "in/cut.parquet").write_bytes((corpus / "in/a.parquet").read_bytes()[:-50])
    put(corpus, "in/notext.parquet", documents(2).drop_columns("text"))
    plan = plan_of(corpus)
    assert {(bad.path, bad.stage) for bad in plan.bad} == {
        ("zero.parquet", "read"), ("cut.parquet", "read"), ("notext.parquet", "plan"),
    }  # fmt: skip
    assert all(bad.path in bad.message for bad in plan.bad)
    assert plan.tallies["bad"].files == 3
    assert rows(plan)["new"] == 18
    finish(plan)
    again = plan_of(corpus)
    assert again.nothing_to_do
    assert len(again.bad) == 3


def test_mended_file_loses_its_dead_letter(corpus: Path) -> None:
    """A bad file that is mended is new, and its dead letter goes once it is committed."""
    (corpus / "in/zero.parquet").write_bytes(b"")
    finish(plan_of(corpus))
    letters = corpus / "out" / "_dead_letters"
    assert len(list(letters.iterdir())) == 1
    put(corpus, "in/zero.parquet", documents(1))
    finish(plan_of(corpus))
    assert list(letters.iterdir()) == []


def test_every_file_bad(tmp_path: Path) -> None:
    """If no file can be used, that is an input error with the first cause, and nothing is written."""
    put(tmp_path, "in/a.parquet", documents(2).rename_columns(["id", "body", "year"]))
    put(tmp_path, "in/b.parquet", documents(2).rename_columns(["id", "body", "year"]))
    with pytest.raises(InputError, match=r"a\.parquet has no column 'text'.*1 more file"):
        plan_of(tmp_path)
    assert not (tmp_path / "out").exists()


def test_file_without_rows(tmp_path: Path) -> None:
    """A file without rows is done with a file without rows."""
    put(tmp_path, "in/a.parquet", documents(0))
    plan = plan_of(tmp_path)
    assert todo(plan) == [("a.parquet", 0, 0)]
    finish(plan)
    assert plan_of(tmp_path).nothing_to_do
    assert len(outputs(tmp_path)) == 1


def test_foreign_and_torn_files_commit_nothing(corpus: Path) -> None:
    """A file that is not ours, and one of ours that was cut to nothing, do not count as done."""
    finish(plan_of(corpus))
    torn = corpus / "out" / "data" / outputs(corpus)[0]
    torn.write_bytes(b"")
    (corpus / "out/data/part-0.parquet").write_bytes(b"x" * 100)
    plan = plan_of(corpus)
    assert len(todo(plan)) == 1
    finish(plan)
    assert torn.stat().st_size > 0


def test_moved_corpus_is_the_same_corpus(corpus: Path) -> None:
    """Keys are relative to INPUT: a corpus that is moved or copied is done."""
    finish(plan_of(corpus))
    shutil.move(corpus / "in", corpus / "elsewhere")
    plan = make_plan(str(corpus / "elsewhere"), Storage.at(str(corpus / "out")), job(), FINGERPRINT)
    assert plan.nothing_to_do


def test_output_inside_input(corpus: Path) -> None:
    """Outputs would be read as input on the next night, so that is refused; a glob that leaves them out is
    not.
    """
    inside = Storage.at(str(corpus / "in" / "out"))
    with pytest.raises(OutputError, match="inside INPUT"):
        make_plan(str(corpus / "in"), inside, job(), FINGERPRINT)
    plan = make_plan(str(corpus / "in" / "*.parquet"), inside, job(), FINGERPRINT)
    assert rows(plan) == {"new": 10}
    finish(plan)
    with pytest.raises(OutputError, match="inside INPUT"):
        make_plan(str(corpus / "in" / "**" / "*.parquet"), inside, job(), FINGERPRINT)


def test_glob_that_would_match_the_outputs(corpus: Path) -> None:
    """A glob that would find the outputs on the next night is refused on the first, when there are none."""
    outside = put(corpus, "all/in/a.parquet", documents(1)).parent.parent
    for pattern in ("**/*.parquet", "*", "**"):
        with pytest.raises(OutputError, match="inside INPUT"):
            make_plan(str(outside / pattern), Storage.at(str(outside / "out")), job(), FINGERPRINT)
    for pattern in ("in/*.parquet", "*/*.parquet"):
        plan = make_plan(str(outside / pattern), Storage.at(str(outside / "out")), job(), FINGERPRINT)
        assert rows(plan) == {"new": 1}


def test_partition_in_the_role_of_the_language(tmp_path: Path) -> None:
    """A partition key may be `input.lang_column`: it reaches the stages, and is not written into files."""
    put(tmp_path, "in/lang=pt%2DBR/a.parquet", documents(2))
    put(tmp_path, "in/lang=__HIVE_DEFAULT_PARTITION__/a.parquet", documents(2))
    config = job().model_copy(update={"input": InputConfig(lang_column="lang")})
    plan = make_plan(str(tmp_path / "in"), Storage.at(str(tmp_path / "out")), config, FINGERPRINT)
    read = [read_item(plan.source, item, config.input) for item in plan.items]
    assert [each.table["lang"].to_pylist() for each in read] == [[None, None, "pt-BR", "pt-BR"]]
    run(plan, context(input=config.input))
    schema = pq.read_schema(next((tmp_path / "out/data").rglob("*.parquet")))
    assert schema.names[:4] == ["id", "text", "year", "sentences"]
    put(tmp_path, "in/plain.parquet", documents(1))
    plan = make_plan(str(tmp_path / "in"), Storage.at(str(tmp_path / "out")), config, FINGERPRINT)
    assert [bad.path for bad in plan.bad] == ["plain.parquet"]


def test_files_of_other_schemas_get_items_of_their_own(tmp_path: Path) -> None:
    """Files share an item only with the same columns and types."""
    put(tmp_path, "in/a.parquet", documents(1))
    put(tmp_path, "in/b.parquet", documents(1).append_column("more", [[1]]))
    put(tmp_path, "in/c.parquet", documents(1))
    plan = plan_of(tmp_path)
    assert [[f.source for f in item.fragments] for item in plan.items] == [
        ["a.parquet", "c.parquet"],
        ["b.parquet"],
    ]
