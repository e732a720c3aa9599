"""SIGTERM ends a run as incomplete."""

import os
import signal
import threading
import time

import pytest

from luke_batch.base.errors import IncompleteError
from luke_batch.distributed.cluster import stoppable


def test_sigterm_ends_the_block() -> None:
    """Once: the handler of before is back for a second signal, and after the block."""
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with stoppable():
            assert signal.getsignal(signal.SIGTERM) != before
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(30)
            finally:
                assert signal.getsignal(signal.SIGTERM) == before

    with pytest.raises(IncompleteError, match="SIGTERM; the same command goes on"):
        work()
    with stoppable():
        pass
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_threads_are_left_alone() -> None:
    """Python takes signals in the main thread alone, and refuses handlers elsewhere."""
    reached: list[bool] = []

    def run() -> None:
        with stoppable():
            reached.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert reached == [True]
