"""The child process: `python -m luke_batch.isolation.child CONNECTION LIFELINE`, two inherited sockets.

It is told once what to be, and then gets requests, one at a time; see `messages`.
"""

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Protocol

import pyarrow as pa

from luke_batch.base import meters
from luke_batch.base.allocator import return_freed_memory
from luke_batch.base.errors import DeviceError, UsageError
from luke_batch.isolation.messages import FooterOrder, Kind, ReadOrder, order_of

_BEAT_SECONDS = 0.2
"""Signs of life are sent at most so often, save for a new stage."""
_MEMORY_SECONDS = 2.0
"""Freed memory is given back so often in the middle of a work item: batches of ever other sizes leave gaps between what
stays, 95 MB of them in 40 seconds with the embedded model. Once takes 5 ms.
"""


class Worker(Protocol):
    """What a child process was told to be."""

    name: str
    """The stage that a request begins with."""

    def answers(self, request: bytes) -> Iterator[pa.Buffer]:
        """What a request asks for, in one answer or several."""
        ...


def worker(message: bytes) -> Worker:
    """What an order asks for. What reads pays for neither heads nor tokenizers."""
    order = order_of(message)
    if isinstance(order, FooterOrder):
        from luke_batch.isolation.trial import Parsing

        return Parsing(order)
    if isinstance(order, ReadOrder):
        from luke_batch.isolation.reading import Reading

        return Reading(order)
    from luke_batch.isolation.stage import Stage

    return Stage(order)


def serve(connection: Connection) -> None:
    """Answer until the parent closes its end."""
    try:
        ready = worker(connection.recv_bytes())
        return_freed_memory()
        beats = Beats(connection)
        meters.listen(beats)
        connection.send_bytes(Kind.READY)
        while True:
            request = connection.recv_bytes()
            meters.beat(ready.name)
            beats.expect_work()
            for done in ready.answers(request):
                return_freed_memory()
                meters.count("memory_bytes", meters.peak_memory())
                connection.send_bytes(Kind.RESULT + json.dumps(meters.take()).encode())
                connection.send_bytes(done)
    except EOFError:
        return
    except UsageError as error:
        said = {"error_class": type(error).__name__, "message": str(error)}
        connection.send_bytes(Kind.REFUSED + json.dumps(said).encode())
    except DeviceError as error:
        connection.send_bytes(Kind.DEVICE + str(error).encode())


class Beats:
    """Sends signs of life, though not each one; between two batches is also the time to give memory back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sent = 0.0
        self._returned = time.monotonic()

    def expect_work(self) -> None:
        """An item begins: what came before it has been given back."""
        self._returned = time.monotonic()

    def __call__(self, stage: str | None) -> None:
        """A batch is done, or `stage` begins."""
        now = time.monotonic()
        if now - self._returned >= _MEMORY_SECONDS:
            self._returned = now
            return_freed_memory()
        if stage is not None or now - self._sent >= _BEAT_SECONDS:
            self._sent = now
            self._connection.send_bytes(Kind.BEAT + (stage or "").encode())


def end_with_parent(lifeline: int) -> None:
    """Let the kernel end this process as soon as the other end of the socket `lifeline` is closed.

    A thread that waits for that would itself wait for a native library that holds the interpreter. SIGIO, whose default
    is to end the process, needs nobody's help.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)


def main(arguments: list[str]) -> None:
    """Serve over the sockets whose numbers are given."""
    connection, lifeline = (int(argument) for argument in arguments)
    end_with_parent(lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    serve(Connection(connection))


if __name__ == "__main__":
    main(sys.argv[1:])
