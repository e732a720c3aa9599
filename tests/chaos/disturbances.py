"""What a run is disturbed by; victims are found in the tree of its processes."""

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from luke_batch.corpus.storage import DATA
from tests.chaos.annotation import Run
from tests.chaos.processes import command_of
from tests.corpora import documents, put

KILLS = ("driver", "SIGTERM", "actor", "worker", "child", "node")
"""Kinds that end a process; the others damage files."""
_CHILD = "luke_batch.isolation.child"
_SEARCH_SECONDS = 4.0
_LISTING_SECONDS = 0.25


def kill_driver(run: Run, _rng: random.Random) -> bool:
    """Kill -9 of the driver; with a local Ray, its whole Ray ends as well."""
    run.process.kill()
    return run.process.wait(30) == -signal.SIGKILL


def terminate_driver(run: Run, _rng: random.Random) -> bool:
    """SIGTERM, as `ray job stop` sends it."""
    run.process.terminate()
    return True


def kill_actor(run: Run, rng: random.Random) -> bool:
    """Kill -9 of a process that holds a checkpoint, or loads it."""
    return _kill_one(run, rng, lambda name: name.startswith("ray::MapWorker("))


def kill_worker(run: Run, rng: random.Random) -> bool:
    """Kill -9 of a process while it reads or commits."""
    return _kill_one(run, rng, lambda name: name.startswith("ray::MapBatches("))


def kill_child(run: Run, rng: random.Random) -> bool:
    """Kill -9 of a process that an actor or a worker has started."""
    return _kill_one(run, rng, lambda name: _CHILD in name, seconds=1)


def kill_node(run: Run, rng: random.Random) -> bool:
    """Kill -9 of all processes of a node that is not the driver's; another node joins."""
    assert run.job.cluster is not None
    return run.job.cluster.replace_node(rng)


def tear_output(run: Run, rng: random.Random) -> bool:
    """Cut an output file, as a local disk may that lost its power."""
    files = sorted((Path(run.job.output) / DATA).rglob("*.parquet"))
    if not files:
        return False
    file = rng.choice(files)
    with suppress(FileNotFoundError):
        content = file.read_bytes()
        file.write_bytes(content[: rng.randrange(len(content))])
    return True


def put_foreign(run: Run, rng: random.Random) -> bool:
    """A Parquet file of somebody else in OUTPUT/data."""
    put(Path(run.job.output) / DATA, f"theirs-{rng.randrange(10**6)}.parquet", documents(3))
    return True


ACTIONS: dict[str, Callable[[Run, random.Random], bool]] = {
    "driver": kill_driver,
    "SIGTERM": terminate_driver,
    "actor": kill_actor,
    "worker": kill_worker,
    "child": kill_child,
    "node": kill_node,
    "torn file": tear_output,
    "foreign file": put_foreign,
}
"""Each says whether it hit something."""


def _kill_one(run: Run, rng: random.Random, wanted: Callable[[str], bool], seconds: float = _SEARCH_SECONDS) -> bool:
    """Whether a living process with such a command line was there, in the time of a search, and was killed.

    A worker says what it does in its command line, for the few milliseconds that a small fragment takes: so
    the processes are listed now and then, and looked at all the time.
    """
    deadline, listed = time.monotonic() + seconds, 0.0
    tree: list[psutil.Process] = []
    while (now := time.monotonic()) < deadline and not run.ended:
        if now - listed > _LISTING_SECONDS:
            tree, listed = [each for each in run.tree() if _is_worker(command_of(each))], now
        found = [process for process in tree if wanted(command_of(process))]
        if found:
            with suppress(psutil.NoSuchProcess):
                rng.choice(found).kill()
                return not run.ended
        time.sleep(0.001)
    return False


def _is_worker(command: str) -> bool:
    return command.startswith("ray::") or _CHILD in command
