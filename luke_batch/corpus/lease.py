"""One run at a time on one OUTPUT: a lease that the run renews while it works, and that expires after it.

    OUTPUT/_luke_batch/lease/00000007.json

The file with the highest number is the lease. Taking it means to create the next number, which only one of
many can (O_EXCL, or a conditional PUT), so two runs that find the same lease expired never both get it. A
lease is free once it is released, once its process is known to have ended on this machine, or when it was not
renewed for as long as it says. That age is measured between two files of the store, so the clocks of the
machines do not matter.

A run that was overtaken commits nothing more, and stops at its next renewal. Should both have written for a
moment, nothing is mixed: names of outputs tell content and configuration (see `output_file`).
"""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from luke_batch.base.errors import IncompleteError, LeaseError, OutputError
from luke_batch.corpus.storage import LEASES, Storage, StoredFile, base_name, join

_RENEWALS = 4
"""Renewals in the time after which a lease expires."""
_ATTEMPTS = 5
_SETTLE_SECONDS = 1.0
"""After which a PUT that was not conditional has had its effect."""
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process of a Linux system, never confused with a later one of the same number."""

    machine: str
    """Boot id and PID namespace: where the number means something."""
    pid: int
    started: str
    """Clock ticks from boot to the start of the process."""

    @classmethod
    def mine(cls) -> Self | None:
        """That of this process; None on systems without /proc."""
        pid, machine = os.getpid(), _machine()
        stat = _stat(pid)
        return None if machine is None or stat is None else cls(machine, pid, stat[1])

    def is_over(self) -> bool:
        """Whether the process has certainly ended; False wherever that cannot be told from here."""
        if self.machine != _machine():
            return False
        stat = _stat(self.pid)
        return stat is None or stat[0] in ("Z", "X") or stat[1] != self.started


@dataclass(frozen=True, slots=True)
class Holder:
    """What a lease says of the run that has it."""

    run_id: str
    host: str
    pid: int
    since: str
    """ISO 8601 in UTC, by the clock of the host."""
    seconds: float
    """After so long without a renewal the lease is free."""
    process: dict[str, Any] | None
    """`ProcessIdentity`, where the system has one."""
    released: bool = False

    def describe(self) -> str:
        """For a message."""
        return f"run {self.run_id} on {self.host} (process {self.pid}, since {self.since})"

    def is_over(self) -> bool:
        """Whether the run has released the lease, or its process has certainly ended."""
        return self.released or (self.process is not None and ProcessIdentity(**self.process).is_over())


@dataclass(frozen=True, slots=True)
class _Found:
    number: int
    modified: float
    holder: Holder | None
    """None where the file cannot be read, for instance while it is created."""


class Lease:
    """A context manager: entering refuses an OUTPUT that is in use, leaving releases what was taken."""

    def __init__(self, output: Storage, run_id: str, seconds: float, name: str | None = None) -> None:
        """`name`: what messages call the place, where it is no OUTPUT of `annotate`."""
        process = ProcessIdentity.mine()
        self._output = output
        self._name = name or f"OUTPUT {output.url}"
        self._mine = Holder(
            run_id=run_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=seconds,
            process=None if process is None else asdict(process),
        )
        self.number: int | None = None
        """For `is_overtaken`; None before the lease is taken."""
        self._ended, self._lost = threading.Event(), threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True, name="luke-batch lease")

    @property
    def lost(self) -> bool:
        """Whether a renewal has found that another run has taken over."""
        return self._lost.is_set()

    def __enter__(self) -> Self:
        try:
            self._refuse(_latest(self._output))
        except OSError as error:
            raise OutputError(f"{self._name} cannot be listed: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.number is None:
            return
        self._ended.set()
        if self._renewing.ident is not None:  # it was started
            self._renewing.join()
        with suppress(OSError):  # it expires by itself
            self._write(replace(self._mine, released=True))

    def take(self) -> None:
        """Take the lease, unless this run has it.

        Raises:
            LeaseError: another run has it.
            OutputError: nothing can be written to OUTPUT.
        """
        if self.number is not None:
            return
        try:
            self.number = self._create()
            for number, file in _numbered(self._output):
                if number < self.number:
                    self._output.remove(file.path)
        except OSError as error:
            raise OutputError(f"{self._name} cannot be written: {error}") from error
        self._renewing.start()

    def check(self) -> None:
        """Raise IncompleteError where another run has taken the lease since."""
        if self.number is not None and (self.lost or is_overtaken(self._output, self.number)):
            raise IncompleteError(
                f"another run has taken over {self._name}, as this one gave no sign of life for"
                f" {self._mine.seconds:g} s; it stops, and the other goes on"
            )

    def _create(self) -> int:
        """Create the next lease; its number."""
        for _ in range(_ATTEMPTS):
            latest = _latest(self._output)
            self._refuse(latest)
            number = 1 if latest is None else latest.number + 1
            self._output.create(_path(number), _content(self._mine))
            if not self._output.is_local:
                time.sleep(_SETTLE_SECONDS)
            latest = _latest(self._output)
            if latest is not None and latest.number == number and latest.holder == self._mine:
                return number
        raise LeaseError(f"{self._name}: several runs start at once; start one of them again")

    def _refuse(self, latest: _Found | None) -> None:
        """Raise LeaseError where `latest` is the lease of another run that may be alive."""
        if latest is None or (latest.holder is not None and latest.holder.is_over()):
            return
        seconds = self._mine.seconds if latest.holder is None else latest.holder.seconds
        if _now(self._output) - latest.modified >= seconds:
            return
        who = "another run" if latest.holder is None else latest.holder.describe()
        end = datetime.fromtimestamp(latest.modified + seconds, UTC)
        raise LeaseError(
            f"{self._name} is in use by {who}; wait for that run or stop it."
            f" If it has crashed, its lease expires at {end:%H:%M:%S} UTC and the same command goes on"
        )

    def _renew(self) -> None:
        assert self.number is not None
        while not self._ended.wait(self._mine.seconds / _RENEWALS):
            with suppress(OSError):  # a store that is away for a while: tried again
                if is_overtaken(self._output, self.number):
                    self._lost.set()
                    return
                self._write(self._mine)

    def _write(self, holder: Holder) -> None:
        assert self.number is not None
        self._output.write_atomic(_path(self.number), _content(holder))


def is_overtaken(output: Storage, number: int) -> bool:
    """Whether the lease of that number is no longer the latest."""
    return any(found > number for found, _ in _numbered(output))


def running(output: Storage) -> Holder | None:
    """The run that works on OUTPUT, by the clock of this machine; nothing is written."""
    latest = _latest(output)
    if latest is None or latest.holder is None or latest.holder.is_over():
        return None
    return latest.holder if time.time() - latest.modified < latest.holder.seconds else None


def _numbered(output: Storage) -> list[tuple[int, StoredFile]]:
    named = [(base_name(file.path).removesuffix(".json"), file) for file in output.list(".json", under=LEASES)]
    return sorted(((int(name), file) for name, file in named if name.isdigit()), key=lambda each: each[0])


def _latest(output: Storage) -> _Found | None:
    numbered = _numbered(output)
    if not numbered:
        return None
    number, file = numbered[-1]
    holder = None
    with suppress(OSError, ValueError, TypeError):
        holder = Holder(**cast("dict[str, Any]", json.loads(output.read_bytes(file.path))))
    return _Found(number, file.modified, holder)


def _now(output: Storage) -> float:
    """The store's own clock, in seconds since the epoch; this machine's where it does not tell."""
    probe = output.temporary_path()
    output.write_atomic(probe, b"")
    found = output.stat(probe)
    output.remove(probe)
    return time.time() if found is None or not found.modified else found.modified


def _path(number: int) -> str:
    return join(LEASES, f"{number:08d}.json")


def _content(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _machine() -> str | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _stat(pid: int) -> tuple[str, str] | None:
    """State and start time (fields 3 and 22 of /proc/PID/stat); None for a process that is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold blanks and parentheses
    return fields[0], fields[19]
