"""Whether a process that left its name in a file is over: known for certain on the machine it ran on."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

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
