"""What this process has done, in plain numbers, and its signs of life: told where the work is done, heard elsewhere.

A count costs one addition to a dictionary, time two readings of a clock. Nobody has to read them: what
watches over a process takes them along (`isolation`), and the distributed room exports them.

One set a process; it is not for several threads at once.
"""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

Counts = dict[str, float]
"""Amounts by `name`, or by `name/label` where a name is counted by a label."""

SECONDS = "seconds"
"""Counted by stage, with `spending`."""
PEAKS = ("memory_bytes",)
"""Of these the largest counts, and not the sum."""

_counts: defaultdict[str, float] = defaultdict(float)
_stages: list[str] = []
_since = 0.0


def count(name: str, amount: float = 1.0, label: str = "") -> None:
    """Add `amount` to `name`, or keep the larger one where it is one of PEAKS."""
    add(_counts, {f"{name}/{label}" if label else name: amount})


def add(total: Counts, more: Mapping[str, float]) -> None:
    """Add `more` to `total`."""
    for key, amount in more.items():
        before = total.get(key, 0.0)
        total[key] = max(before, amount) if key in PEAKS else before + amount


def absorb(more: Mapping[str, float]) -> None:
    """Add what another process has counted to what this one has."""
    add(_counts, more)


def take() -> Counts:
    """Everything counted since the last call."""
    taken = dict(_counts)
    _counts.clear()
    return taken


@contextmanager
def spending(stage: str) -> Generator[None]:
    """Count the time inside as seconds of `stage`; what is spent inside of it on another stage counts there
    alone.
    """
    _settle()
    _stages.append(stage)
    try:
        yield
    finally:
        _settle()
        _stages.pop()


def peak_memory() -> int:
    """Most bytes that this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _settle() -> None:
    """Charge the time since the last call to the stage that it was spent on."""
    global _since  # noqa: PLW0603 - one clock a process
    now = time.perf_counter()
    if _stages:
        _counts[f"{SECONDS}/{_stages[-1]}"] += now - _since
    _since = now


Listener = Callable[[str | None], None]

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Tell `listener` of every beat from now on."""
    _listeners[:] = [listener]


def beat(stage: str | None = None) -> None:
    """Work advances; `stage` is named where another one begins."""
    for listener in _listeners:
        listener(stage)
