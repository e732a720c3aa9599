"""Processes of this machine, which may end while they are looked at."""

from collections.abc import Iterable
from contextlib import suppress

import psutil


def descendants(pid: int) -> list[psutil.Process]:
    """What lives below a process now; nothing where that has ended."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def command_of(process: psutil.Process) -> str:
    """Its command line, or what Ray writes in its place; empty where it is over."""
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Kill -9, all at once as far as that goes."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
