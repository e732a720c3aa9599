"""One run at a time on one OUTPUT."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luke_batch.base.errors import IncompleteError, LeaseError, OutputError
from luke_batch.corpus import lease as module
from luke_batch.corpus.lease import Lease, ProcessIdentity, is_overtaken, running
from luke_batch.corpus.storage import TEMPORARY, Storage

LEASES = "_luke_batch/lease"


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    """An empty OUTPUT."""
    return Storage.at(str(tmp_path / "out"))


def numbers(output: Storage) -> list[str]:
    """Lease files."""
    return [file.path.removeprefix(f"{LEASES}/") for file in output.list(under=LEASES)]


def leave_crashed(output: Storage, *, seconds: float = 60, age: float = 0, **changes: Any) -> None:
    """A lease of a run on another machine that was last renewed `age` seconds ago."""
    holder = {
        "run_id": "crashed", "host": "far-away", "pid": 7, "since": "2026-11-20T01:00:00+00:00",
        "seconds": seconds, "process": {"machine": "another", "pid": 7, "started": "1"}, "released": False,
    }  # fmt: skip
    path = f"{LEASES}/00000003.json"
    output.write_atomic(path, json.dumps({**holder, **changes}).encode())
    then = time.time() - age
    os.utime(output.absolute(path), (then, then))


def test_looking_writes_nothing(output: Storage) -> None:
    """A run with nothing to do enters and leaves, and OUTPUT is not even created."""
    with Lease(output, "one", 60) as lease:
        assert lease.number is None
        assert running(output) is None
    assert not Path(output.root).exists()


def test_second_is_refused_while_the_first_works(output: Storage) -> None:
    """The message names run, host, process and expiry; after the release the next one comes."""
    with Lease(output, "one", 60) as first:
        first.take()
        first.take()
        assert running(output) is not None
        expected = rf"in use by run one on .*process {os.getpid()}.*expires at \d\d:\d\d:\d\d UTC"
        with pytest.raises(LeaseError, match=expected) as raised:
            Lease(output, "two", 60).__enter__()
        assert raised.value.exit_code == 2
    assert running(output) is None
    with Lease(output, "two", 60) as second:
        second.take()
        assert second.number == 2
    assert numbers(output) == ["00000002.json"]


def test_refused_between_looking_and_taking(output: Storage) -> None:
    """Two runs that both found OUTPUT free: the second to take it is refused."""
    with Lease(output, "one", 60) as first, Lease(output, "two", 60) as second:
        first.take()
        with pytest.raises(LeaseError, match="in use by run one"):
            second.take()


def test_crashed_run_elsewhere_is_taken_over_after_expiry(output: Storage) -> None:
    """Its lease holds for as long as it says after the last renewal, and no longer."""
    leave_crashed(output, seconds=60, age=50)
    with pytest.raises(LeaseError, match="run crashed on far-away"):
        Lease(output, "two", 5).__enter__()
    leave_crashed(output, seconds=60, age=61)
    with Lease(output, "two", 5) as lease:
        lease.take()
        assert lease.number == 4


def test_killed_while_it_asks_for_the_time(output: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of the question is a temporary file, which a later run removes with the others."""
    leave_crashed(output)
    monkeypatch.setattr(output, "remove", lambda _: None)
    with pytest.raises(LeaseError):
        Lease(output, "two", 60).__enter__()
    assert numbers(output) == ["00000003.json"]
    assert [file.path for file in output.list(".part", under=TEMPORARY)] != []


def test_clock_of_the_machine_does_not_matter(output: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The age of a lease is the difference between two times of the store."""
    leave_crashed(output, seconds=60, age=10)
    wrong = time.time() + 86400
    monkeypatch.setattr(module.time, "time", lambda: wrong)
    with pytest.raises(LeaseError):
        Lease(output, "two", 60).__enter__()


def test_unreadable_lease_holds_until_it_expires(output: Storage) -> None:
    """A lease that is being written, or was torn, belongs to somebody."""
    output.write_atomic(f"{LEASES}/00000001.json", b"")
    with pytest.raises(LeaseError, match="in use by another run"):
        Lease(output, "two", 60).__enter__()
    os.utime(output.absolute(f"{LEASES}/00000001.json"), (0, 0))
    with Lease(output, "two", 60) as lease:
        lease.take()


def test_renewed_while_it_works(output: Storage) -> None:
    """A run that works for longer than its lease lasts keeps it."""
    with Lease(output, "one", 1) as lease:
        lease.take()
        time.sleep(1.6)
        with pytest.raises(LeaseError):
            Lease(output, "two", 1).__enter__()
        lease.check()


def test_overtaken_run_stops(output: Storage) -> None:
    """A run that was paused for too long finds its successor: it stops, and does not release what it lost."""
    with Lease(output, "one", 1) as first:
        first.take()
        first.check()
        assert not first.lost
        output.write_atomic(f"{LEASES}/00000002.json", b"")
        assert is_overtaken(output, 1)
        with pytest.raises(IncompleteError, match="taken over OUTPUT"):
            first.check()
        deadline = time.monotonic() + 20
        while not first.lost and time.monotonic() < deadline:
            time.sleep(0.05)
        assert first.lost
    assert output.read_bytes(f"{LEASES}/00000002.json") == b""


def test_output_that_cannot_be_listed(output: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an output error, and nothing else is tried."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(Storage, "list", fail)
    with pytest.raises(OutputError, match="cannot be listed: no route"):
        Lease(output, "one", 60).__enter__()


_TAKE = """
import sys, time
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.storage import Storage
from luke_batch.base.errors import LeaseError
print("ready", flush=True)
sys.stdin.readline()
try:
    with Lease(Storage.at(sys.argv[1]), sys.argv[2], 60) as lease:
        lease.take()
        print("taken", flush=True)
        sys.stdin.readline()
except LeaseError as error:
    print("refused", flush=True)
"""


@pytest.fixture
def contender(output: Storage) -> Callable[[str], subprocess.Popen[str]]:
    """Starts a process that takes the lease when it is told to, and holds it until it is told again."""

    def start(run_id: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", _TAKE, output.root, run_id],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    return start


def tell(process: subprocess.Popen[str]) -> None:
    """One line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """One line."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_one_of_many_processes_gets_it(output: Storage, contender: Callable[[str], subprocess.Popen[str]]) -> None:
    """Four processes find the same expired lease at once: exactly one takes it over."""
    leave_crashed(output, age=100)
    processes = [contender(f"run{number}") for number in range(4)]
    for process in processes:
        tell(process)
    answers = [hear(process) for process in processes]
    assert sorted(answers) == ["refused"] * 3 + ["taken"]
    for process in processes:
        process.communicate("\n", timeout=60)
    assert running(output) is None


def test_killed_run_on_this_machine_is_known_to_be_over(
    output: Storage, contender: Callable[[str], subprocess.Popen[str]]
) -> None:
    """After kill -9 nobody has to wait for the lease to expire."""
    process = contender("killed")
    tell(process)
    assert hear(process) == "taken"
    with pytest.raises(LeaseError, match="run killed"):
        Lease(output, "two", 60).__enter__()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    with Lease(output, "two", 60) as lease:
        lease.take()


def test_process_identity() -> None:
    """A process is over when it is gone, or its number has passed to another; elsewhere nobody can tell."""
    mine = ProcessIdentity.mine()
    assert mine is not None
    assert not mine.is_over()
    assert replace(mine, started="0").is_over()
    assert replace(mine, pid=2**22 + 1).is_over()
    assert not replace(mine, pid=2**22 + 1, machine="another").is_over()
