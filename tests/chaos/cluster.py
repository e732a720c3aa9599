"""A Ray cluster of several nodes on one machine: a node is a tree of processes, and is lost by killing it."""

import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Place:
    """Where a node is."""

    address: str = "127.0.0.1"
    under: tuple[str, ...] = ()
    """What its command line begins with."""
    cpus: int = 1
    """Of Ray's."""


HERE = Place()


class Cluster:
    """A head node, to which drivers connect, and others."""

    def __init__(self, logs: Path, places: Sequence[Place] = (HERE, HERE, HERE)) -> None:
        logs.mkdir(exist_ok=True)
        self.address = f"{places[0].address}:{free_port()}"
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_worker_niceness": "0",
        }
        self._logs, self._places = logs, places
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        """By the number of their place; 0 is the head."""

    def __enter__(self) -> Self:
        try:
            for number in range(len(self._places)):
                self.join(number)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in sorted(self._nodes, reverse=True):
            self.lose(number)

    def tree(self, number: int | None = None) -> list[psutil.Process]:
        """The processes of all nodes, or of one."""
        nodes = self._nodes.values() if number is None else [self._nodes[number]]
        return [process for node in nodes for process in descendants(node.pid)]

    def raylet(self, number: int) -> psutil.Process | None:
        """The process of a node without which it is none; None where that has ended."""
        return next((process for process in self.tree(number) if "/raylet " in command_of(process)), None)

    def replace_node(self, rng: random.Random) -> bool:
        """Lose one of the other nodes; another one joins. Whether the lost one was alive."""
        number = rng.randrange(1, len(self._places))
        alive = self.raylet(number) is not None
        self.lose(number)
        self.join(number)
        return alive

    def lose(self, number: int) -> None:
        """Kill all processes of a node."""
        node = self._nodes.pop(number)
        tree = descendants(node.pid)
        node.kill()
        kill_all(tree)
        node.wait(30)
        psutil.wait_procs(tree, 30)

    def join(self, number: int) -> None:
        """Start a node at its place."""
        if number == 0:
            port = self.address.rpartition(":")[2]
            options = ["--head", f"--port={port}", "--include-dashboard=false"]
        else:
            options = [f"--address={self.address}", f"--dashboard-agent-listen-port={free_port()}"]
        self._nodes[number] = self._start(self._places[number], *options)

    def _start(self, place: Place, *options: str) -> "subprocess.Popen[bytes]":
        command = [*place.under, _RAY, "start", "--block", f"--num-cpus={place.cpus}", *options]
        command += [f"--node-ip-address={place.address}", "--disable-usage-stats"]
        command += [f"--object-store-memory={150 * 2**20}"]
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
