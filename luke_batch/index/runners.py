"""What runs the independent tasks of a build: this process, or Ray (`distributed/index.py`)."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

Task = Callable[[Any], str]


class Runner(Protocol):
    """Runs independent tasks."""

    def __call__(self, task: Task, items: Sequence[Any], *, alone: bool = False) -> Iterable[str]:
        """Results of `task` for each item, in any order.

        alone: the task has threads of its own and may use a whole machine.
        """
        ...


RunnerFor = Callable[[int], Runner]
"""What runs the tasks of a build, by the bytes of vectors that it has to work on."""


def in_threads(task: Task, items: Sequence[Any], *, alone: bool = False) -> Iterator[str]:
    """Run the tasks in this process, as many at a time as it has cores: they spend their time outside of
    Python.
    """
    threads = 1 if alone else min(len(items), _cores())
    if threads <= 1:
        yield from map(task, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="index") as pool:
        yield from pool.map(task, items)


def _cores() -> int:
    """Cores that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
