"""What footers said before is used for the very same files only, and is never needed."""

import os
from pathlib import Path

import pytest

from luke_batch.corpus.footers import read_known_footers, write_known_footers
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.sources import Restriction
from luke_batch.corpus.storage import FOOTERS, Storage
from tests.corpora import FINGERPRINT, context, documents, job, put, run


def plan_of(folder: Path, fingerprint: str = FINGERPRINT, *where: str) -> Plan:
    """The plan of folder/in against folder/out, after which its footers are known."""
    output = Storage.at(str(folder / "out"))
    plan = make_plan(str(folder / "in"), output, job(), fingerprint, Restriction.parse(where))
    write_known_footers(output, plan.known)
    return plan


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three files, written a minute ago; everything is committed and known."""
    for number in range(3):
        settle(put(tmp_path, f"in/date={number}/a.parquet", documents(5), compression="none"))
    run(plan_of(tmp_path), context())
    return tmp_path


def settle(path: Path) -> None:
    """As if it had been written a minute ago."""
    then = path.stat().st_mtime - 60
    os.utime(path, (then, then))


def test_unchanged_files_are_not_opened(corpus: Path) -> None:
    """The plan is the same with and without what is known."""
    plan = plan_of(corpus)
    assert (plan.footers_read, plan.nothing_to_do, plan.tallies["done"].rows) == (0, True, 15)
    (corpus / "out" / FOOTERS).unlink()
    cold = plan_of(corpus)
    assert cold.footers_read == 3
    assert (cold.files, cold.tallies, cold.known) == (
        plan.files,
        plan.tallies,
        plan.known,
    )


def test_rewritten_in_place_with_its_old_time(corpus: Path) -> None:
    """Same path, size and modification time, other content: the footer is read, and the file is changed."""
    path = corpus / "in/date=1/a.parquet"
    before = path.stat()
    content = path.read_bytes()
    other = put(corpus, "other.parquet", documents(5, first=5), compression="none").read_bytes()
    assert len(other) == len(content)
    path.write_bytes(other)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )
    assert plan_of(corpus).tallies["changed"].rows == 5


def test_version_of_a_fresh_file_is_not_noted(corpus: Path) -> None:
    """A file that was just written might be written again within the same tick of the clock: its bytes are hashed."""
    put(corpus, "in/date=3/a.parquet", documents(1))
    noted = plan_of(corpus).known["date=3/a.parquet"]
    assert noted.version == ""
    assert noted.digest is not None


def test_files_with_work_are_opened(corpus: Path) -> None:
    """Under another fingerprint, or with an output gone, the footer is read again."""
    assert plan_of(corpus, "another").footers_read == 3
    next((corpus / "out/data/date=0").iterdir()).unlink()
    assert plan_of(corpus).footers_read == 1


def test_restricted_plan_keeps_the_others(corpus: Path) -> None:
    """What is known of files outside of the restriction stays known."""
    plan_of(corpus, FINGERPRINT, "date=1")
    assert plan_of(corpus).footers_read == 0
    (corpus / "in/date=2/a.parquet").unlink()
    assert "date=2/a.parquet" not in plan_of(corpus).known


@pytest.mark.parametrize("content", [b"", b"garbage", b"ARROW1\0\0 and no more"])
def test_damaged_file_is_ignored(corpus: Path, content: bytes) -> None:
    """It is derived state: whatever is wrong with it costs the reading of footers."""
    (corpus / "out" / FOOTERS).write_bytes(content)
    assert read_known_footers(Storage.at(str(corpus / "out"))) == {}
    assert plan_of(corpus).footers_read == 3
