"""One write of a command, at which its process waits until it may go on: see `tests/poison/breakpoints.py`."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from luke_batch.corpus.storage import LEASES
from tests.chaos.annotation import Job, Run

_EXPIRED_SECONDS = 3600.0


class Breakpoints:
    """The folder that says at which write, and where the process that stands there says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"LUKE_BATCH_BREAKPOINTS": str(folder)}

    def stop_at(self, number: int) -> None:
        """The `number`-th write or removal from now on waits."""
        self.clear()
        self.folder.mkdir(exist_ok=True)
        (self.folder / "order").write_text(str(number))

    def reached(self, run: Run) -> int | None:
        """Wait for it; the id of the process that stands there, or None where the run ended before."""
        while not run.ended:
            with suppress(FileNotFoundError):
                pid = int((self.folder / "reached").read_text())
                (self.folder / "order").unlink()  # the others pass
                return pid
            time.sleep(0.02)
        return None

    def passed(self) -> int:
        """Writes and removals so far."""
        return sum(file.name.isdigit() for file in self.folder.iterdir())

    def go(self) -> None:
        """Whoever stands there goes on."""
        (self.folder / "go").touch()

    def clear(self) -> None:
        """Nobody waits for anything."""
        for file in self.folder.iterdir() if self.folder.exists() else []:
            file.unlink()


def send(pid: int, what: signal.Signals) -> None:
    """A signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, what)


def is_alive(pid: int) -> bool:
    """Whether a process is there, be it stopped."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def expire_lease(job: Job) -> None:
    """As if its holder had not renewed it for an hour; it must stand still, or it renews it."""
    storage = job.storage
    then = time.time() - _EXPIRED_SECONDS
    for file in storage.list(".json", under=LEASES):
        os.utime(storage.absolute(file.path), (then, then))
