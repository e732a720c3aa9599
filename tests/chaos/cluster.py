"""A Ray cluster of several nodes on one machine: a node is a tree of processes, and is lost by killing it."""

import os
import random
import secrets
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.chaos.processes import command_of, descendants, kill_all
from tests.s3_server import free_port

_RAY = str(Path(sys.executable).with_name("ray"))
_START_ATTEMPTS = 3
"""Ray gives a node 30 seconds, which a busy machine may not keep."""
_STARTED = "Ray runtime started"


class Cluster:
    """A head node, to which drivers connect, and others; each has `cpus` of Ray's."""

    def __init__(self, logs: Path, others: int = 2, cpus: int = 1) -> None:
        logs.mkdir(exist_ok=True)
        self.address = f"127.0.0.1:{free_port()}"
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_worker_niceness": "0",
        }
        self._logs, self._cpus, self._size = logs, cpus, others
        self._head: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        port = self.address.rpartition(":")[2]
        self._head = self._start("--head", f"--port={port}", "--include-dashboard=false")
        self._others = [self._join() for _ in range(self._size)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in [*self._others, self._head]:
            if node is not None:
                _lose(node)

    def tree(self) -> list[psutil.Process]:
        """The processes of all nodes."""
        nodes = [node for node in (self._head, *self._others) if node is not None]
        return [process for node in nodes for process in descendants(node.pid)]

    def replace_node(self, rng: random.Random) -> bool:
        """Lose one of the other nodes; another one joins. Whether the lost one was alive."""
        lost = self._others.pop(rng.randrange(len(self._others)))
        alive = any("/raylet " in command_of(process) for process in descendants(lost.pid))
        _lose(lost)
        self._others.append(self._join())
        return alive

    def _join(self) -> "subprocess.Popen[bytes]":
        return self._start(f"--address={self.address}", f"--dashboard-agent-listen-port={free_port()}")

    def _start(self, *options: str) -> "subprocess.Popen[bytes]":
        command = [_RAY, "start", "--block", f"--num-cpus={self._cpus}", "--node-ip-address=127.0.0.1", *options]
        command += ["--disable-usage-stats", f"--object-store-memory={150 * 2**20}"]
        said = ""
        for _ in range(_START_ATTEMPTS):
            log = self._logs / f"node-{len(list(self._logs.iterdir()))}.log"
            with log.open("wb") as out:
                node = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | self.environment)
            while node.poll() is None:
                if _STARTED in (said := log.read_text(errors="replace")):
                    return node
                time.sleep(0.1)
        raise AssertionError(f"a node does not start: {said}")


def _lose(node: "subprocess.Popen[bytes]") -> None:
    tree = descendants(node.pid)
    node.kill()
    kill_all(tree)
    node.wait(30)
    psutil.wait_procs(tree, 30)
