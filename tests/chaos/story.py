"""Seeded stories: the same command again and again, disturbed at random moments, until it ends with 0."""

import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.chaos.annotation import Job, Run
from tests.chaos.corpus import FRAGMENTS, Corpus, fall_ill, get_well
from tests.chaos.disturbances import ACTIONS, KILLS
from tests.chaos.verdict import assert_as_undisturbed, assert_replayed

LANDED: Counter[str] = Counter()
"""Disturbances of this session that hit something while a run was at work."""
STORIES: list[str] = []
"""What happened in those of this session that are told by a single write, with their seeds."""
_MOST_RUNS = 30
_MOST_STORIES = 4
_DELAY_SECONDS = 0.4
_GONE_SECONDS = 60.0


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
        Disturbance(kind, moment, rng.uniform(0, _DELAY_SECONDS)) for kind, moment in zip(kinds, moments, strict=True)
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
                story.landed[next_one.kind] += not run.ended and ACTIONS[next_one.kind](run, rng)
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


def disturb(job: Job, counts: Mapping[str, int], rng: random.Random, corpus: Corpus) -> None:
    """Tell stories with one OUTPUT each until every disturbance has hit something, and judge each OUTPUT, also
    after a replay once all are well.

    Children are left out where the processes have none.
    """
    left = Counter(counts)
    for number in range(_MOST_STORIES):
        own = replace(job, output=f"{job.output}-{number}")
        fall_ill()
        story = run_to_the_end(own, schedule(rng, left), rng)
        assert_as_undisturbed(own, corpus)
        get_well()
        assert_replayed(own, corpus)
        left -= story.landed
        if not story.landed["child"]:
            del left["child"]
        if not left:
            return
    raise AssertionError(f"did not happen in {_MOST_STORIES} stories: {left}")


def _check_end(run: Run, code: int) -> None:
    said = run.said()
    assert not run.has_traceback(), said
    # 2: a driver that was killed while it created its lease left nothing to know it by, until that expires.
    assert code in (0, 4, -signal.SIGKILL, -signal.SIGTERM) or (code == 2 and "is in use by" in said), said
    if code == 2:
        time.sleep(1)


def summary() -> Iterable[str]:
    """How many disturbances of which kind have landed, and single stories."""
    kills = sum(LANDED[kind] for kind in KILLS)
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(LANDED.items()) if count)
    if kinds:
        yield f"{kills} kills landed while a run was at work; of all disturbances: {kinds}"
    yield from STORIES
