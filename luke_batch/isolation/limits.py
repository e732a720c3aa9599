"""What keeps a child process from outliving its parent or taking the machine's memory."""

import fcntl
import os
import resource
from pathlib import Path
from typing import Literal

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_AUTO_SHARE = 0.5
_GB = 10**9


def memory_limit(setting: Literal["auto"] | float | None) -> int | None:
    """Bytes that a process may take for its data; None: any number.

    `auto`: half of what the machine, or the container, has. So one process hits its own limit before Ray or the kernel
    chooses a victim, who may be another.
    """
    if setting is None:
        return None
    if setting != "auto":
        return round(setting * _GB)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if _CGROUP_LIMIT.exists():
        limit = _CGROUP_LIMIT.read_text().strip()
        total = min(total, int(limit)) if limit.isdigit() else total
    return round(_AUTO_SHARE * total)


def limit_memory(most: int) -> None:
    """Let allocations of this process fail beyond `most` bytes: private writable memory, so that mapped checkpoints are
    free.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def end_with_parent(lifeline: int) -> None:
    """Let the kernel end this process as soon as the other end of the socket `lifeline` is closed.

    A thread that waits for that would itself wait for a native library that holds the interpreter. SIGIO, whose default
    is to end the process, needs nobody's help.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
