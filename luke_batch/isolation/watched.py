"""A child process that works for this one, and is started anew whenever it is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, Self

import pyarrow as pa

from luke_batch.base import errors, meters
from luke_batch.base.errors import CrashError, DeviceError, HangError, ResourceError, UsageError
from luke_batch.config import IsolationConfig
from luke_batch.isolation.messages import Kind, Order, order_message

_STARTS = 3
"""Attempts at starting a child process."""
_LAST_BREATH = 2.0
"""Seconds between the end of a connection and the end of the process that had it."""
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_AUTO_SHARE = 0.5
_COMMAND = (sys.executable, "-m", "luke_batch.isolation.child")


class Watched:
    """A child process with an order, whose signs of life are listened for.

    What the child counts is absorbed by the `meters` of this process; the time of a child that is lost with its work
    counts as seconds of `lost`, that of starting one as `load`.

    It is not for several threads at once. `close` it, or leave it to the end of this process, which the child does not
    survive.
    """

    def __init__(self, order: Order, settings: IsolationConfig, threads: int = 1) -> None:
        """Start it.

        Raises:
            UsageError: the order cannot be carried out.
            DeviceError: the GPU is lost.
        """
        self._order = order
        self._seconds = settings.seconds
        self._memory = order.memory
        self._environment = {
            # One thread does the work; glibc's further heaps would each keep free memory of their own (39 MB with the
            # embedded model).
            "MALLOC_ARENA_MAX": "1",
            **os.environ,
            # Ray puts the folders of a submitted job into sys.path alone.
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            # Torch and the tokenizer read these when they are loaded. The processes are the parallelism: further
            # threads would fight over the same cores.
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
        }
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def process_id(self) -> int:
        """Of the child process as it is now."""
        return self._child.process.pid

    def close(self) -> None:
        """End the child process."""
        self._child.end()

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):  # it was never started, or ended before
            self.close()

    def _send(self, request: bytes | pa.Buffer) -> None:
        """Ask for something; a child that was lost since the last request is replaced."""
        if not self._child.send(request):
            self._child.end()
            self._start()
            self._child.send(request)

    def _answer(self, patience: float, longer: str) -> pa.Buffer:
        """The next answer. CrashError or HangError where there is none: then there is another child.

        patience: seconds between two signs of life. longer: of what the setting is for, in a message.
        """
        asked = time.perf_counter()
        try:
            return self._hear(Kind.RESULT, patience, longer)
        except (CrashError, HangError):
            meters.count(meters.SECONDS, time.perf_counter() - asked, "lost")
            self._start()
            raise

    def _start(self) -> None:
        with meters.spending("load"):
            self._load()
        meters.count("loads")

    def _load(self) -> None:
        self._stage = "load"
        for attempt in range(_STARTS):
            self._child = _Child.start(self._environment)
            self._child.send(order_message(self._order))
            try:
                self._hear(Kind.READY, None, "")
                return
            except CrashError as error:
                if attempt + 1 == _STARTS:
                    raise ResourceError(f"a stage cannot be loaded: {error}") from None

    def _hear(self, wanted: Kind, patience: float | None, longer: str) -> pa.Buffer:
        """The message after one of the kind that is wanted; the child is ended where it does not come."""
        child = self._child
        try:
            while child.connection.poll(patience):
                message = child.connection.recv_bytes()
                kind, content = message[:1], message[1:].decode()
                if kind == wanted == Kind.RESULT:
                    meters.absorb(json.loads(content))
                    return pa.py_buffer(child.connection.recv_bytes())
                if kind == wanted:
                    return pa.py_buffer(b"")
                if kind == Kind.BEAT:
                    self._stage = content or self._stage
                elif kind == Kind.REFUSED:
                    raise _refusal(**json.loads(content))
                else:
                    raise DeviceError(content)
        except (EOFError, ConnectionError):
            raise CrashError(self._death(child.end(_LAST_BREATH)), self._stage) from None
        except (UsageError, DeviceError):
            child.end()
            raise
        child.end()
        raise HangError(
            f"no progress for {patience:g} seconds (isolation.seconds is {self._seconds:g}{longer}",
            self._stage,
        )

    def _death(self, status: int) -> str:
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        limit = "" if self._memory is None else f"; it may take {self._memory / 1e9:.1f} GB of memory"
        return f"its process ended with {how} (isolation.memory_gb{limit})"


@dataclass(frozen=True, slots=True)
class _Child:
    """A running child process."""

    process: subprocess.Popen[bytes]
    connection: Connection
    lifeline: socket.socket
    """Its other end is the child's: when this process ends, so does the child."""

    @classmethod
    def start(cls, environment: dict[str, str]) -> Self:
        ours, theirs = socket.socketpair()
        lifeline, end = socket.socketpair()
        with theirs, end:
            numbers = (theirs.fileno(), end.fileno())
            process = subprocess.Popen(  # noqa: S603 - our own module and two numbers
                [*_COMMAND, *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=numbers,
            )
        return cls(process, Connection(ours.detach()), lifeline)

    def send(self, message: bytes | pa.Buffer) -> bool:
        """Whether the child was there to take it."""
        try:
            self.connection.send_bytes(message)
        except OSError:  # ended, or closed by `end`
            return False
        return True

    def end(self, wait: float = 0.0) -> int:
        """Kill it if it still lives after so many seconds, and let go of it; its exit status, negative for a signal."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(wait)
        self.process.kill()
        self.connection.close()
        self.lifeline.close()
        return self.process.wait()


def memory_limit(setting: Literal["auto"] | float | None) -> int | None:
    """Bytes that a process may take for its data; None: any number.

    `auto`: half of what the machine, or the container, has. So one process hits its own limit before Ray or the kernel
    chooses a victim, who may be another.
    """
    if setting is None:
        return None
    if setting != "auto":
        return round(setting * 1e9)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if _CGROUP_LIMIT.exists():
        limit = _CGROUP_LIMIT.read_text().strip()
        total = min(total, int(limit)) if limit.isdigit() else total
    return round(_AUTO_SHARE * total)


def _refusal(error_class: str, message: str) -> UsageError:
    """The child's error, of its own class."""
    found = getattr(errors, error_class, UsageError)
    return found(message) if issubclass(found, UsageError) else UsageError(message)
