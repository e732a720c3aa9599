"""Two runs at once on one OUTPUT, as real processes: whatever happens, every (file, row) is there once."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from luke_batch.corpus.output_file import Key
from luke_batch.corpus.reader import read
from tests.corpora import documents, put

ROOT = Path(__file__).parents[2]
FILES, ROWS = 6, 12
SMALL = ["--set", "output.max_rows=4"]
OTHER_CUT = ["--set", "output.max_rows=5"]
OTHER_SETTINGS = ["--set", "output.max_rows=4", "--set", "heads.0.decode=nested"]
SHORT = ["--set", "output.lease_seconds=1"]

Process = subprocess.Popen[str]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Files of 12 documents."""
    for number in range(FILES):
        put(tmp_path, f"in/{number}.parquet", documents(ROWS, first=number * ROWS))
    return tmp_path


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    """Everything that a test starts ends with it."""
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()
        process.communicate(timeout=60)


def start(corpus: Path, processes: list[Process], *options: str) -> Process:
    """A run that waits for a line."""
    command = [
        sys.executable,
        "-m",
        "tests.run_without_ray",
        str(corpus / "in"),
        str(corpus / "out"),
        *options,
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    processes.append(process)
    return process


def go(process: Process) -> None:
    """Let it begin."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def end(process: Process) -> tuple[int, str]:
    """Exit code and what it said."""
    _, error = process.communicate(timeout=120)
    return process.returncode, error


def wait_for_outputs(corpus: Path, count: int, process: Process) -> None:
    """Until so many files are committed."""
    while len(list((corpus / "out").glob("data/*.parquet"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def assert_every_row_once(corpus: Path) -> None:
    """The dataset and the glob hold every row once, and one generation of each file."""
    expected = sorted(f"d{number}" for number in range(FILES * ROWS))
    files = list((corpus / "out/data").rglob("*.parquet"))
    for dataset in (read(str(corpus / "out")), ds.dataset(list(map(str, files)))):
        assert sorted(dataset.to_table(columns=["id"])["id"].to_pylist()) == expected
    keys = [key for key in (Key.parse(file.name) for file in files) if key is not None]
    assert len({(key.path, key.generation) for key in keys}) == FILES


@pytest.mark.parametrize("options", [SMALL, SMALL + SHORT, OTHER_CUT, OTHER_SETTINGS])
def test_started_together(corpus: Path, processes: list[Process], options: list[str]) -> None:
    """One does the work, and the other is refused with the holder's name, or finds nothing left to do."""
    both = [start(corpus, processes, *SMALL), start(corpus, processes, *options)]
    for process in both:
        go(process)
    ends = [end(process) for process in both]
    assert 0 in [code for code, _ in ends], ends
    for code, error in ends:
        assert (code, error) == (0, "") or (code == 2 and "is in use by run" in error), ends
    assert_every_row_once(corpus)


@pytest.mark.parametrize("options", [SMALL, OTHER_CUT, OTHER_SETTINGS])
def test_killed_and_started_again(corpus: Path, processes: list[Process], options: list[str]) -> None:
    """The second is refused while the first lives; after kill -9 of the first it goes on at once."""
    first = start(corpus, processes, *SMALL)
    refused, second = start(corpus, processes, *options), start(corpus, processes, *options)
    go(first)
    wait_for_outputs(corpus, 4, first)
    go(refused)
    code, error = end(refused)
    assert (code, "is in use by run" in error, error.count("\n")) == (2, True, 1)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    go(second)
    assert end(second) == (0, "")
    assert_every_row_once(corpus)


@pytest.mark.parametrize("options", [SMALL, OTHER_CUT, OTHER_SETTINGS])
def test_paused_past_its_lease(corpus: Path, processes: list[Process], options: list[str]) -> None:
    """A run that stood still is overtaken; when it wakes up it commits nothing more, and stops."""
    first = start(corpus, processes, *SMALL, *SHORT)
    second = start(corpus, processes, *options, *SHORT)
    go(first)
    wait_for_outputs(corpus, 4, first)
    first.send_signal(signal.SIGSTOP)
    time.sleep(1.2)
    go(second)
    assert end(second) == (0, "")
    before = sorted(path.name for path in (corpus / "out/data").iterdir())
    first.send_signal(signal.SIGCONT)
    code, error = end(first)
    assert (code, "another run has taken over OUTPUT" in error) == (4, True)
    if options is not SMALL:  # else a commit that was under way may have written its file again
        new = {path.name for path in (corpus / "out/data").iterdir()} - set(before)
        assert len(new) <= 1
    last = start(corpus, processes, *options)
    go(last)
    assert end(last) == (0, "")
    assert_every_row_once(corpus)
