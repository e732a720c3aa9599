"""SIGTERM, as `ray job stop`, Kubernetes and `kill` send it: the run ends as incomplete, and says so."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from luke_batch.base.errors import IncompleteError


@contextmanager
def stoppable() -> Generator[None]:
    """In this block SIGTERM raises IncompleteError, once: `ray job stop` leaves 3 seconds before it kills.

    Ray's own handler, which ends the process at once with exit code 1, is put back then and at the end; so
    enter the block after ray.init. Threads other than the main one get no signals: nothing changes there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)
        raise IncompleteError("stopped by SIGTERM; the same command goes on where it was")

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
