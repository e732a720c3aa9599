"""The child process: `python -m luke_batch.isolation.child CONNECTION LIFELINE`, two inherited sockets.

It is told once what to run, and then gets tables, one at a time; see `messages`.
"""

import fcntl
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import pyarrow as pa

from luke_batch.annotate.annotator import ModelStage, model_stages
from luke_batch.annotate.preparation import Preparation
from luke_batch.base import meters
from luke_batch.base.allocator import return_freed_memory
from luke_batch.base.errors import DeviceError, UsageError
from luke_batch.config import JobConfig
from luke_batch.isolation.messages import Kind, StageOrder, from_stream, to_stream
from luke_batch.isolation.net import isolated, written_by
from luke_batch.model.engine.device import pick_device

_BEAT_SECONDS = 0.2
"""Signs of life are sent at most so often, save for a new stage."""
_MEMORY_SECONDS = 2.0
"""Freed memory is given back so often in the middle of a work item: batches of ever other sizes leave gaps between what
stays, 95 MB of them in 40 seconds with the embedded model. Once takes 5 ms.
"""


class Stage:
    """A stage with the columns that it writes."""

    def __init__(self, order: StageOrder) -> None:
        """Load what it needs, within the memory that the order gives."""
        config = JobConfig.from_json(order.config)
        self._columns, self._vector = written_by(config, order.stage)
        spec = None if order.stage is None else model_stages(config)[order.stage]
        device = "cpu" if spec is None else pick_device(spec.model.device, order.gpu_assigned)
        if order.memory is not None and device == "cpu":
            limit_memory(order.memory)
        if spec is None:
            self.name = "segment"
            self._work: Callable[[pa.Table], pa.Table] = Preparation(config)
        else:
            self.name = config.heads[spec.heads[0]].head
            self._work = ModelStage(config, spec, device)
        return_freed_memory()

    def run(self, table: pa.Table) -> pa.Table:
        """The annotated table; see `net.isolated`."""
        return isolated(self._work, table, self._columns, self._vector, self.name)


def serve(connection: Connection) -> None:
    """Answer until the parent closes its end."""
    try:
        stage = Stage(StageOrder.from_json(connection.recv_bytes()))
        beats = Beats(connection)
        meters.listen(beats)
        connection.send_bytes(Kind.READY)
        while True:
            table = from_stream(connection.recv_bytes())
            meters.beat(stage.name)
            beats.expect_work()
            done = to_stream(stage.run(table))
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


def main(arguments: list[str]) -> None:
    """Serve over the sockets whose numbers are given."""
    connection, lifeline = (int(argument) for argument in arguments)
    end_with_parent(lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    serve(Connection(connection))


if __name__ == "__main__":
    main(sys.argv[1:])
