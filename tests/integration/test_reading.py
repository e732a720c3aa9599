"""Source files that crash or hang what reads them: each is one dead letter, and all others are read."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from luke_batch.base import meters
from luke_batch.config import InputConfig, IsolationConfig
from luke_batch.corpus.footers import Tail
from luke_batch.corpus.fragments import Fragment, WorkItem
from luke_batch.corpus.read import ReadItem, read_items
from luke_batch.corpus.storage import Storage
from luke_batch.document.columns import FRAGMENT
from luke_batch.isolation.reading import Reader
from luke_batch.isolation.trial import FooterTrial
from tests.corpora import documents, put

POISON = str(Path(__file__).parents[1] / "poison")


@pytest.fixture(autouse=True)
def poisonous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes obey `POISON(deed@read)` in the name of a file."""
    monkeypatch.syspath_prepend(POISON)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Of tmp_path, with little patience and memory."""
    (tmp_path / "in").mkdir()
    with Reader(Storage.at(str(tmp_path / "in")), InputConfig(), IsolationConfig(seconds=1.5, memory_gb=1)) as made:
        yield made


def fragments(folder: Path, *names: str) -> tuple[Fragment, ...]:
    """Of files with four documents each, in halves."""
    for number, name in enumerate(names):
        put(folder / "in", name, documents(4, first=4 * number))
    return tuple(Fragment(name, "", start, start + 2, "", 4, 100, 0) for name in names for start in (0, 2))


def rows(read: ReadItem) -> list[tuple[int, str]]:
    """(fragment, id) of the documents."""
    table = read.table
    pairs = zip(table[FRAGMENT].to_pylist(), table["id"].to_pylist(), strict=True)
    return [pair for pair in pairs if pair[0] >= 0]


def test_reads_as_without_a_child(reader: Reader, tmp_path: Path) -> None:
    """Tables, failures and metadata of several items are equal; what the child has counted is counted here."""
    parts = fragments(tmp_path, "a.parquet", "b.parquet", "c.parquet")
    missing = Fragment("gone.parquet", "", 0, 2, "", 2, 100, 0)
    items = [WorkItem(parts[:3]), WorkItem((*parts[3:], missing)), WorkItem((missing,))]
    meters.take()
    found = list(reader(items))
    wanted = list(read_items(Storage.at(str(tmp_path / "in")), items, InputConfig()))
    for one, other in zip(found, wanted, strict=True):
        assert one.table.equals(other.table, check_metadata=True)
        assert one.failures == other.failures
    assert meters.take()["seconds/read"] > 0


@pytest.mark.parametrize(
    ("deed", "error_class", "reason"),
    [
        ("kill", "CrashError", "SIGKILL"),
        ("hang", "HangError", "no progress for 1.5 seconds"),
        ("hold", "HangError", "isolation.seconds is 1.5"),
        ("abort", "CrashError", "SIGABRT"),
        ("allocate", "MemoryError", "nable to allocate"),
    ],
)
def test_one_file_among_good_ones(reader: Reader, tmp_path: Path, deed: str, error_class: str, reason: str) -> None:
    """Its fragments have failed, those of its item and the items behind it come whole.

    Before, it took Ray's worker with it, four times, and then ended the run.
    """
    bad = f"b-POISON({deed}@read).parquet"
    parts = fragments(tmp_path, "a.parquet", bad, "c.parquet", "d.parquet")
    first, second = reader([WorkItem(parts[:6]), WorkItem(parts[6:])])
    assert rows(first) == [(0, "d0"), (0, "d1"), (1, "d2"), (1, "d3"), (4, "d8"), (4, "d9"), (5, "d10"), (5, "d11")]
    assert [failure.fragment for failure in first.failures] == [2, 3]
    for failure in first.failures:
        assert failure.error_class == error_class
        assert failure.message.startswith(bad)
        assert reason in failure.message
    assert (rows(second), second.failures) == ([(0, "d12"), (0, "d13"), (1, "d14"), (1, "d15")], ())


def test_nothing_but_a_bad_file(reader: Reader, tmp_path: Path) -> None:
    """The item has its carrier row, so that its failures reach the commit."""
    (read,) = reader([WorkItem(fragments(tmp_path, "POISON(end@read).parquet"))])
    assert rows(read) == []
    assert len(read.failures) == 2


def test_a_reader_that_was_left_in_the_middle(reader: Reader, tmp_path: Path) -> None:
    """What it would still have said answers no other request."""
    parts = fragments(tmp_path, "a.parquet", "b.parquet")
    reading = reader([WorkItem(parts[:2]), WorkItem(parts[2:])])
    next(reading)
    reading.close()
    (read,) = reader([WorkItem(parts[2:])])
    assert rows(read)[0] == (0, "d4")


def test_what_reads_loads_no_models(reader: Reader, tmp_path: Path) -> None:
    """A process of a hundred megabytes beside each worker that reads, not one with torch in it."""
    list(reader([WorkItem(fragments(tmp_path, "a.parquet"))]))
    maps = psutil.Process(reader.process_id).memory_maps()
    assert not [each.path for each in maps if "libtorch" in each.path]


def test_footers_are_tried_one_after_another(tmp_path: Path) -> None:
    """Those at which the process ends or falls silent are named, with the reason; the others may be parsed."""
    names = ["a", "b-POISON(kill@footer)", "c-POISON(hang@footer)", "d", "e-POISON(raise@footer)"]
    tails: list[Tail] = []
    for name in names:
        content = put(tmp_path, f"{name}.parquet", documents(2)).read_bytes()
        length = int.from_bytes(content[-8:-4], "little") + 8
        tails.append(Tail(f"{name}.parquet", len(content), content[-length:]))
    with FooterTrial(IsolationConfig(seconds=1, memory_gb=1)) as trial:
        found = trial(tails)
        assert [error is None for error in found] == [True, False, False, True, True]
        assert "b-POISON(kill@footer).parquet: its footer cannot be parsed: its process ended with" in str(found[1])
        assert "no progress for 1 seconds" in str(found[2])
        assert trial(tails[:1]) == [None]
        assert trial([]) == []


RUN = """
import sys
from luke_batch.cli import run
from luke_batch.distributed import pipeline
pipeline.WAVE_ITEMS = 1
sys.exit(run(sys.argv[1:]))
"""


def annotate(folder: Path, checkpoint: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """A run of its own, in waves of one work item."""
    settings = [f"models.main.path={checkpoint}", "models.main.actors=1", "isolation.seconds=4", "output.max_rows=8"]
    settings.append("models.main.precision=float32")
    options = [part for each in (*settings, *more) for part in ("--set", each)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([POISON, *filter(None, sys.path)])}
    command = [sys.executable, "-c", RUN, "annotate", str(folder / "in"), str(folder / "out"), "--address", "local"]
    return subprocess.run(
        [*command, "--json", *options], capture_output=True, text=True, env=environment, timeout=400, check=False
    )


def letters(folder: Path) -> Sequence[tuple[str, str]]:
    """(source, error class) of the dead letters."""
    table: pa.Table = ds.dataset(folder / "out" / "_dead_letters").to_table()
    return sorted(zip(table["source"].to_pylist(), table["error_class"].to_pylist(), strict=True))


def test_a_night_with_bad_files(tmp_path: Path, checkpoint: Path) -> None:
    """One crashes where its rows are read, one hangs; one crashes where its footer is, at planning.

    Each has one letter; all others are committed, in waves before and after; the next run tries the bad ones again.
    Before, the run ended at the first one with exit code 4, and at a bad footer with its process.
    """
    bad = {
        "b-POISON(kill@read).parquet": "CrashError",
        "c-POISON(hang@read).parquet": "HangError",
        "d-POISON(kill@footer).parquet": "FragmentError",
    }
    for number, name in enumerate(["a.parquet", *bad, "f.parquet"]):
        put(tmp_path / "in", name, documents(8, first=8 * number))
    done = annotate(tmp_path, checkpoint, "output.error_budget=10")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["dead_files"], said["missing"]) == (3, [])
    assert letters(tmp_path) == sorted(bad.items())
    ids = ds.dataset(tmp_path / "out" / "data", partitioning="hive").to_table(columns=["id"])["id"].to_pylist()
    assert sorted(ids) == sorted(f"d{number}" for number in [*range(8), *range(32, 40)])
    again = annotate(tmp_path, checkpoint, "output.error_budget=1")
    assert again.returncode == 3, again.stderr
    assert letters(tmp_path) == sorted(bad.items())
