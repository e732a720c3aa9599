"""What a run is disturbed by: seeded kinds, moments and victims, found in the tree of its processes."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pyarrow as pa

from luke_batch.corpus.layout import DATA
from tests.chaos.annotation import FRAGMENTS, Job, Run
from tests.chaos.processes import command_of
from tests.chaos.verdict import assert_as_undisturbed
from tests.corpora import documents, put

KILLS = ("driver", "SIGTERM", "actor", "worker", "child", "node")
"""Kinds that end a process; the others damage files."""
LANDED: Counter[str] = Counter()
"""Disturbances of this session that hit something while a run was at work."""
_MOST_RUNS = 30
_MOST_STORIES = 4
_SEARCH_SECONDS = 4.0
_LISTING_SECONDS = 0.25
_DELAY_SECONDS = 0.4
_GONE_SECONDS = 60.0

_CHILD = "luke_batch.isolation.child"


@dataclass(frozen=True)
class Disturbance:
    """Happens once OUTPUT holds `committed` files and `delay` seconds more have passed."""

    kind: str
    committed: int
    delay: float


def schedule(rng: random.Random, counts: Mapping[str, int]) -> list[Disturbance]:
    """So many of each kind, in an order and at moments of the generator's choice."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    rng.shuffle(kinds)
    # The last fragments are committed too fast after another to be disturbed one by one.
    moments = sorted(rng.randrange(FRAGMENTS - 8) for _ in kinds)
    return [
        Disturbance(kind, moment, rng.uniform(0, _DELAY_SECONDS))
        for kind, moment in zip(kinds, moments, strict=True)
    ]


@dataclass
class Story:
    """What happened to one job."""

    landed: Counter[str] = field(default_factory=lambda: Counter[str]())
    codes: list[int] = field(default_factory=lambda: list[int]())
    """Exit codes of the runs."""


def run_to_the_end(job: Job, plan: Sequence[Disturbance], rng: random.Random) -> Story:
    """Start the job again and again, disturb it as planned, until a run ends with exit code 0.

    Every run must end as the documentation says, without a traceback, and leave no process behind.
    """
    story, waiting, runs = Story(), list(plan), list[Run]()
    try:
        for _ in range(_MOST_RUNS):
            run = job.start()
            runs.append(run)
            while waiting and run.reaches(waiting[0].committed):
                time.sleep(waiting[0].delay)
                run.tree()
                next_one = waiting.pop(0)
                story.landed[next_one.kind] += not run.ended and _ACTIONS[next_one.kind](run, rng)
            story.codes.append(run.end())
            _check_end(run, story.codes[-1])
            if story.codes[-1] == 0:
                break
        assert story.codes[-1] == 0, story
        for run in runs:
            assert run.left_over(_GONE_SECONDS) == []
    finally:
        for run in runs:
            run.stop()
    LANDED.update(story.landed)
    return story


def disturb(job: Job, counts: Mapping[str, int], rng: random.Random, expected: pa.Table) -> None:
    """Tell stories with one OUTPUT each until every disturbance has hit something, and judge each OUTPUT.

    Children are left out where the processes have none.
    """
    left = Counter(counts)
    for number in range(_MOST_STORIES):
        own = replace(job, output=f"{job.output}-{number}")
        story = run_to_the_end(own, schedule(rng, left), rng)
        assert_as_undisturbed(own, expected)
        left -= story.landed
        if not story.landed["child"]:
            del left["child"]
        if not left:
            return
    raise AssertionError(f"did not happen in {_MOST_STORIES} stories: {left}")


def _check_end(run: Run, code: int) -> None:
    said = run.said()
    assert "Traceback" not in said, said
    # 2: a driver that was killed while it created its lease left nothing to know it by, until that expires.
    assert code in (0, 4, -signal.SIGKILL, -signal.SIGTERM) or (code == 2 and "is in use by" in said), said
    if code == 2:
        time.sleep(1)


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
    table: pa.Table = documents(3)
    put(Path(run.job.output) / DATA, f"theirs-{rng.randrange(10**6)}.parquet", table)
    return True


_ACTIONS: dict[str, Callable[[Run, random.Random], bool]] = {
    "driver": kill_driver,
    "SIGTERM": terminate_driver,
    "actor": kill_actor,
    "worker": kill_worker,
    "child": kill_child,
    "node": kill_node,
    "torn file": tear_output,
    "foreign file": put_foreign,
}


def _kill_one(
    run: Run, rng: random.Random, wanted: Callable[[str], bool], seconds: float = _SEARCH_SECONDS
) -> bool:
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


def summary() -> Iterable[str]:
    """How many disturbances of which kind have landed."""
    kills = sum(LANDED[kind] for kind in KILLS)
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(LANDED.items()) if count)
    yield f"{kills} kills landed while a run was at work; of all disturbances: {kinds}"
