"""A whole build: plan -> aggregate fragments -> merge buckets -> index vectors -> measure recall -> publish.

Whoever calls says what runs the tasks of a step: without a word threads of this process do,
`distributed/index.py` runs them on Ray.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from luke_batch.base.errors import InputError
from luke_batch.index.making import Making, skipped
from luke_batch.index.manifest import Held, Manifest, Version
from luke_batch.index.packs import open_pack
from luke_batch.index.plan import Plan, make_plan
from luke_batch.index.repacking import Repacking, wanted
from luke_batch.index.runners import Runner, RunnerFor, in_threads
from luke_batch.index.settings import IndexConfig
from luke_batch.index.sources import Sources
from luke_batch.index.tasks import Aggregation
from luke_batch.index.versions import IndexFolder


def _in_threads(_: int) -> Runner:
    return in_threads


@dataclass(frozen=True, slots=True)
class Built:
    """A finished build."""

    version: Version
    nothing_to_do: bool
    """The index held exactly these fragments already."""
    warnings: Sequence[str]
    seconds: float


@dataclass(slots=True)
class _Clock:
    """Durations of steps."""

    seconds: dict[str, float] = field(default_factory=lambda: dict[str, float]())
    last: float = field(default_factory=time.monotonic)

    def lap(self, step: str) -> None:
        now = time.monotonic()
        self.seconds[step] = round(now - self.last, 3)
        self.last = now


def build(
    sources: Sources,
    folder: IndexFolder,
    config: IndexConfig,
    runner_for: RunnerFor = _in_threads,
    tell: Callable[[str], None] = lambda _: None,
) -> Built:
    """Make the index hold exactly the fragments of `sources`.

    Args:
        sources: annotated outputs. folder: of the index. config: its settings. runner_for: chooses what runs
        the tasks. tell: is told each step in a line.

    Raises:
        UsageError: something cannot be used; the index is as it was.
        IncompleteError: the folder can no longer be written; the same command goes on.
    """
    start = time.monotonic()
    with folder.locked():
        clock = _Clock()
        plan = make_plan(folder, sources, config)
        clock.lap("plan")
        if plan.nothing_to_do and plan.base is not None and plan.base.config == config:
            # A build that was killed after its version was published has not tidied up.
            folder.tidy(plan.base.manifest.number, {each.pack for each in plan.kept})
            return Built(plan.base, True, _warnings(plan.base.manifest), time.monotonic() - start)
        run = runner_for(plan.bytes)
        held = _aggregate(plan, sources, folder, config, run, tell)
        clock.lap("aggregate")
        made = Making(plan, folder, config, held)
        buckets = made.merge(run, tell)
        clock.lap("merge")
        indexed = made.index(buckets, run, tell)
        manifest = made.manifest(buckets, indexed, sources, clock.seconds)
        published = folder.publish(manifest, held)
    return Built(published, False, _warnings(manifest), time.monotonic() - start)


def _aggregate(
    plan: Plan,
    sources: Sources,
    folder: IndexFolder,
    config: IndexConfig,
    run: Runner,
    tell: Callable[[str], None],
) -> list[Held]:
    """All live fragments with their partial aggregates."""
    held = list(plan.kept)
    fragments = {one.key: one for pack in plan.packs for one in pack}
    if fragments:
        tell(f"aggregating {len(fragments):,} fragments")
    for name in run(Aggregation(folder.packs, sources, config.policy), plan.packs):
        facts = open_pack(folder.packs / name).facts
        for number, key in enumerate(facts.fragments):
            figures = facts.mentions[number], facts.rows[number], facts.skipped[number]
            held.append(Held(fragments[key], name, number, *figures))
    if not any(each.mentions for each in held):
        reasons = skipped(held)
        why = "; ".join(f"{count:,} {reason}" for reason, count in reasons.items()) or "they have no mentions"
        names = ", ".join(member.name for member in sources.members)
        raise InputError(f"ANNOTATED {names}: no mention can be indexed ({why}); nothing was changed")
    return sorted(_repacked(held, folder.packs, run), key=lambda each: each.fragment.key)


def _repacked(held: list[Held], packs: Path, run: Runner) -> list[Held]:
    """The same fragments in fewer packs, where there are too many."""
    groups = wanted(packs, held)
    moved: dict[str, Held] = {}
    fragments = {each.fragment.key: each for each in held}
    for name in run(Repacking(packs), groups):
        for number, key in enumerate(open_pack(packs / name).facts.fragments):
            moved[key] = replace(fragments[key], pack=name, number=number)
    return [moved.get(each.fragment.key, each) for each in held]


def _warnings(manifest: Manifest) -> list[str]:
    found = [f"{count:,} mentions {reason} are left out" for reason, count in manifest.skipped.items()]
    recall = manifest.recall
    if recall is not None and recall["value"] < recall["floor"]:
        found.append(
            f"recall@{recall['depth']} is {recall['value']:.3f}, below {recall['floor']:g}: raise --probes,"
            " or choose another --variant"
        )
    return found
