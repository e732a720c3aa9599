"""Fewer, larger output files with the same rows, whatever happens on the way."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luke_batch.base.errors import IncompleteError, LeaseError, OutputError
from luke_batch.corpus.compaction import Compaction, compact
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.outcome import reconcile
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.reader import read
from luke_batch.corpus.storage import Storage
from tests.corpora import FINGERPRINT, context, documents, job, put, run
from tests.unit.test_plan import sweep

MB = 10**6


def annotate_folder(folder: Path, fingerprint: str = FINGERPRINT, max_rows: int = 4) -> Plan:
    """Commit folder/in under folder/out."""
    plan = make_plan(str(folder / "in"), Storage.at(str(folder / "out")), job(max_rows), fingerprint)
    run(plan, context(fingerprint=fingerprint))
    return plan


def compacted(folder: Path, target: int = MB) -> Compaction:
    """Compact folder/out."""
    output = Storage.at(str(folder / "out"))
    with Lease(output, "compact", 60) as lease:
        return compact(output, lease, target)


def outputs(folder: Path) -> list[Path]:
    """Output files."""
    return sorted((folder / "out/data").rglob("*.parquet"))


def table(folder: Path) -> pa.Table:
    """All committed rows."""
    return read(str(folder / "out")).to_table()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """30 documents of which two are dead, in a partition, and two tiny files; in fragments of four."""
    texts = ["FAIL" if number in (5, 17) else f"Łódź{number} grows." for number in range(30)]
    put(tmp_path, "in/date=1/a.parquet", documents(30).set_column(1, "text", [texts]))
    put(tmp_path, "in/b.parquet", documents(2, first=30))
    put(tmp_path, "in/empty.parquet", documents(0))
    annotate_folder(tmp_path)
    return tmp_path


def test_adjacent_outputs_become_one(corpus: Path) -> None:
    """Rows, order, types and metadata stay, and other sources' outputs; a second time nothing is done."""
    before, files = table(corpus), len(outputs(corpus))
    done = compacted(corpus)
    assert (done.sources, done.before, done.after, done.skipped) == (1, files, 3, 0)
    assert table(corpus).equals(before)
    assert len(outputs(corpus)) == 3
    (merged,) = (corpus / "out/data/date=1").iterdir()
    metadata = pq.read_schema(merged).metadata
    assert (metadata[b"luke_batch.rows"], metadata[b"luke_batch.run"]) == (b"0-30", b"run1")
    assert metadata[b"luke_batch.source"] == b"date=1/a.parquet"
    again = compacted(corpus)
    assert (again.sources, again.before, again.after) == (0, 3, 3)


def test_planning_and_sweeping_see_no_difference(corpus: Path) -> None:
    """Everything is done, with the same documents and dead letters, and nothing is left to remove."""
    before = reconcile(annotate_folder(corpus), "run1")
    compacted(corpus)
    plan = annotate_folder(corpus)
    assert plan.nothing_to_do
    after = reconcile(plan, "run1")
    assert (after.documents, after.dead_documents, after.complete) == (before.documents, 2, True)
    assert sweep(plan) == []


def test_dead_letters_of_the_parts_are_those_of_the_whole(corpus: Path) -> None:
    """They bear the name of the merged output; their runs and messages stay."""
    folder = corpus / "out/_dead_letters"
    before = pa.concat_tables(pq.read_table(path) for path in sorted(folder.iterdir()))
    compacted(corpus)
    (path,) = folder.iterdir()
    letters = pq.read_table(path)
    assert letters.drop_columns("fragment").equals(before.drop_columns("fragment"))
    (output,) = (corpus / "out/data/date=1").iterdir()
    assert path.name == output.name
    assert set(letters["fragment"].to_pylist()) == {output.stem}


def test_target_size(corpus: Path) -> None:
    """No merged file is made of more than the target; what is too large already stays alone."""
    sizes = [path.stat().st_size for path in (corpus / "out/data/date=1").iterdir()]
    compacted(corpus, 3 * max(sizes))
    rows = [pq.read_metadata(path).num_rows for path in sorted((corpus / "out/data/date=1").iterdir())]
    assert 1 < len(rows) < len(sizes)
    assert sum(rows) == 28
    assert compacted(corpus, 1).sources == 0


def test_gap_is_not_bridged(corpus: Path) -> None:
    """Where rows are missing, the file name could not tell; the next run fills the gap."""
    before = table(corpus)
    path = sorted((corpus / "out/data/date=1").iterdir())[3]
    path.unlink()
    compacted(corpus)
    assert len(list((corpus / "out/data/date=1").iterdir())) == 2
    annotate_folder(corpus)
    assert table(corpus).equals(before)


def test_half_replaced_source_is_left_alone(corpus: Path) -> None:
    """While another generation is coming, parts of neither are merged."""
    files = annotate_folder(corpus, "another")
    before = outputs(corpus)
    assert compacted(corpus).skipped == len(files.files)
    assert outputs(corpus) == before


class _Crash(BaseException):
    """As if the process were killed."""


def dies_at(step: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, which works `step` times."""
    calls = iter(range(step))

    def dying(*arguments: Any) -> Any:
        if next(calls, None) is None:
            raise _Crash
        return call(*arguments)

    return dying


def one_by_one(storage: Storage, paths: Sequence[str]) -> dict[str, str]:
    """`Storage.remove_all`, which lets every error through."""
    for path in paths:
        storage.remove(path)
    return {}


@pytest.mark.parametrize("step", range(14))
def test_killed_at_any_write_or_removal(corpus: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader shows every row once at once, the next run has nothing to do, and the rest is tidied up."""
    before = table(corpus)
    with monkeypatch.context() as patch:
        crash = dies_at(step, lambda method, *arguments: method(*arguments))
        patch.setattr(Storage, "remove_all", one_by_one)
        for name in ("write_atomic", "put", "remove"):
            method = getattr(Storage, name)
            patch.setattr(
                Storage,
                name,
                lambda self, path, *data, _method=method: (
                    _method(self, path, *data) if path.startswith("_luke_batch") else crash(_method, self, path, *data)
                ),
            )
        try:
            compacted(corpus)
            crashed = False
        except _Crash:
            crashed = True
    assert crashed == (step < 12)
    assert table(corpus).equals(before)
    plan = annotate_folder(corpus)
    assert plan.nothing_to_do
    sweep(plan)
    compacted(corpus)
    assert table(corpus).equals(before)
    assert len(outputs(corpus)) == 3
    assert len(list((corpus / "out/_dead_letters").iterdir())) == 1


def test_a_merged_file_that_another_has_written_stays(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compaction that was overtaken finds one with all rows, in which a replay has healed a letter.

    Before, it put what it had read over it, without a condition.
    """
    aside = corpus.with_name("aside")
    shutil.copytree(corpus, aside)
    compacted(aside)
    (merged,) = (path for path in outputs(aside) if "date=1" in str(path))
    whole = pq.ParquetFile(merged).read()
    pq.write_table(whole.replace_schema_metadata({**whole.schema.metadata, b"by": b"another"}), merged)
    place = corpus / merged.relative_to(aside)
    put_file = Storage.put

    def overtaken(storage: Storage, path: str, data: pa.Buffer, version: str | None) -> str | None:
        if path.endswith(place.name) and not place.exists():
            shutil.copy(merged, place)
        return put_file(storage, path, data, version)

    monkeypatch.setattr(Storage, "put", overtaken)
    before = table(corpus)
    done = compacted(corpus)
    assert place.read_bytes() == merged.read_bytes()
    assert table(corpus).equals(before)
    assert done.removed == 8 + 2  # outputs, and files of their letters
    assert len(list((corpus / "out/_dead_letters").iterdir())) == 1


def test_parts_that_cannot_be_removed_are_named(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is merged, and read once; the next run removes them."""
    before = table(corpus)
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "remove_all", lambda _, paths: {paths[0]: "AccessDenied"})
        with pytest.raises(IncompleteError, match=r"1 merged files cannot be removed, such as .*: AccessDenied"):
            compacted(corpus)
    assert table(corpus).equals(before)
    sweep(annotate_folder(corpus))
    assert len(outputs(corpus)) == 3


def test_pandas_index_is_that_of_the_whole(tmp_path: Path) -> None:
    """A range index that pandas keeps in metadata covers all rows again."""
    frame = documents(12).to_pandas().set_index(pd.RangeIndex(10, 130, 10))
    (tmp_path / "in").mkdir()
    frame.to_parquet(tmp_path / "in/a.parquet")
    annotate_folder(tmp_path)
    compacted(tmp_path)
    (path,) = outputs(tmp_path)
    assert pd.read_parquet(path).index.tolist() == frame.index.tolist()


def test_damaged_part_is_named(corpus: Path) -> None:
    """Nothing is removed where a part cannot be read."""
    path = sorted((corpus / "out/data/date=1").iterdir())[1]
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    before = outputs(corpus)
    with pytest.raises(OutputError, match=f"{path.name} cannot be read"):
        compacted(corpus)
    assert outputs(corpus) == before


def test_refused_while_a_run_works(corpus: Path) -> None:
    """And where there is nothing to compact."""
    output = Storage.at(str(corpus / "out"))
    with Lease(output, "a-run", 60) as lease:
        lease.take()
        with pytest.raises(LeaseError, match="run a-run"):
            compacted(corpus)
    with pytest.raises(OutputError, match="holds no committed file"):
        compact(Storage.at(str(corpus / "nowhere")), lease, MB)


def test_codec_stays(tmp_path: Path) -> None:
    """Merged files are compressed as their parts."""
    put(tmp_path, "in/a.parquet", documents(8))
    plan = make_plan(str(tmp_path / "in"), Storage.at(str(tmp_path / "out")), job(), FINGERPRINT)
    run(plan, context(compression="snappy"))
    compacted(tmp_path)
    (path,) = outputs(tmp_path)
    assert pq.read_metadata(path).row_group(0).column(0).compression == "SNAPPY"
