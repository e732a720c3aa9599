"""A whole build: plan -> aggregate fragments -> merge buckets -> index vectors -> measure recall -> publish.

Whoever calls says what runs the tasks of a step: without a word threads of this process do,
`distributed/index.py` runs them on Ray.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

from luke_batch.base.errors import InputError
from luke_batch.index.packs import Repacking, open_pack, wanted
from luke_batch.index.plan import Plan, bucket_bits, digest_of, make_plan, pack_uses
from luke_batch.index.recall import DEPTH
from luke_batch.index.settings import IndexConfig
from luke_batch.index.sources import UNKNOWN, Sources
from luke_batch.index.tasks import Aggregation, Bucket, Indexing, Merge
from luke_batch.index.vectors import Update
from luke_batch.index.versions import SCHEMA, Held, IndexFolder, Manifest, Version, link_file

Task = Callable[[Any], str]


class Runner(Protocol):
    """Runs independent tasks."""

    def __call__(self, task: Task, items: Sequence[Any], *, alone: bool = False) -> Iterable[str]:
        """Results of `task` for each item, in any order.

        alone: the task has threads of its own and may use a whole machine.
        """
        ...


RunnerFor = Callable[[int], Runner]
"""What runs the tasks of a build, by the bytes of vectors that it has to work on."""


def in_threads(task: Task, items: Sequence[Any], *, alone: bool = False) -> Iterator[str]:
    """Run the tasks in this process, as many at a time as it has cores: they spend their time outside of Python."""
    threads = 1 if alone else min(len(items), _cores())
    if threads <= 1:
        yield from map(task, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="index") as pool:
        yield from pool.map(task, items)


def _cores() -> int:
    """Cores that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Making:
    """The version that is built."""

    plan: Plan
    folder: IndexFolder
    config: IndexConfig
    held: list[Held]

    @property
    def _rows(self) -> int:
        return sum(each.rows for each in self.held)

    @property
    def _dimension(self) -> int:
        return self.held[0].fragment.dimension

    @property
    def _bits(self) -> int:
        base = self.plan.base
        return bucket_bits(self._rows, self._dimension, None if base is None else base.manifest.bits)

    @property
    def _base(self) -> Version | None:
        """The version to carry on: one with the same buckets, model and columns."""
        base = self.plan.base
        if base is None or base.manifest.bits != self._bits or base.manifest.dimension != self._dimension:
            return None
        return base if base.config.search.aliases == self.config.search.aliases else None

    @property
    def _merged(self) -> Path:
        return self.folder.building / digest_of(self.held, self.config, self._bits, self._base)

    def merge(self, run: Runner, tell: Callable[[str], None]) -> list[Bucket]:
        """Merge all buckets and lay the files of the version out."""
        bits, base = self._bits, self._base
        task = Merge(
            packs=self.folder.packs,
            uses=pack_uses(self.folder.packs, self.held, self.plan, base),
            target=self._merged,
            version=self.plan.number,
            bits=bits,
            dimension=self._dimension,
            base=None if base is None else base.folder,
            policy=self.config.policy,
            aliases=self.config.search.aliases,
        )
        tell(f"merging {self._rows:,} partial aggregates, {1 << bits} buckets of entities")
        buckets = [Bucket(**json.loads(text)) for text in run(task, range(1 << bits))]
        self._lay_out("entities", {name for bucket in buckets for name in bucket.files})
        self._lay_out("names", {bucket.names for bucket in buckets if bucket.names is not None})
        return buckets

    def _lay_out(self, kind: str, files: set[str]) -> None:
        folder = self.folder.building / "version" / kind
        folder.mkdir(parents=True, exist_ok=True)
        present = {path.name for path in folder.iterdir()}
        for name in present - files:
            (folder / name).unlink()
        for name in files - present:
            link_file(self._found(kind, name), folder / name)

    def _found(self, kind: str, name: str) -> Path:
        """What was merged, what changed alone, or what the last version has."""
        base = self._base
        folders = [self._merged / kind, self._merged / "changes", *([] if base is None else [base.folder / kind])]
        return next(path for folder in folders if (path := folder / name).exists())

    def index(self, buckets: Sequence[Bucket], run: Runner, tell: Callable[[str], None]) -> dict[str, Any]:
        """Index the vectors and measure recall; see `Indexing`."""
        base = self._base
        entities = sum(bucket.entities for bucket in buckets)
        update = Update(
            folder=self.folder.building / "version",
            base=None if base is None else base.folder,
            facts={} if base is None else base.manifest.vectors,
            changes=[self._merged / "changes" / bucket.change for bucket in buckets if bucket.change],
            bits=self._bits,
            entities=entities,
            dimension=self._dimension,
            recall=None if base is None or base.manifest.recall is None else base.manifest.recall["value"],
            changed=sum(bucket.changed + bucket.removed for bucket in buckets),
            settings=self.config.search,
        )
        tell(f"indexing the vectors of {entities:,} entities")
        (text,) = run(Indexing(update), [0], alone=True)
        return cast("dict[str, Any]", json.loads(text))

    def manifest(
        self, buckets: Sequence[Bucket], indexed: dict[str, Any], sources: Sources, seconds: dict[str, float]
    ) -> Manifest:
        """What the version says of itself."""
        first = self.held[0].fragment
        recall = indexed["recall"]
        if recall is not None:
            recall |= {"depth": DEPTH, "floor": self.config.search.recall_floor}
        return Manifest(
            schema=SCHEMA,
            number=self.plan.number,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            luke_batch=version("luke-batch"),
            config=self.config.model_dump(mode="json"),
            bits=self._bits,
            dimension=first.dimension,
            model_id=first.model,
            model=self._model(sources, first.model),
            sources=[member.name for member in sources.members],
            entities=sum(bucket.entities for bucket in buckets),
            mentions=sum(bucket.mentions for bucket in buckets),
            skipped=skipped(self.held),
            changes={
                **self.plan.changes(),
                "entities_changed": sum(bucket.changed for bucket in buckets),
                "entities_removed": sum(bucket.removed for bucket in buckets),
            },
            vectors=indexed["vectors"],
            recall=recall,
            seconds=seconds | {step: round(value, 3) for step, value in indexed["seconds"].items()},
        )

    def _model(self, sources: Sources, identity: str) -> dict[str, Any] | None:
        found = sources.model(identity)
        base = self.plan.base
        if found is None and base is not None and base.manifest.model_id == identity:
            return base.manifest.model
        return None if found is None or found.path == UNKNOWN else asdict(found)


def skipped(held: Sequence[Held]) -> dict[str, int]:
    """Mentions that were left out, by reason."""
    counts: Counter[str] = Counter()
    for each in held:
        counts.update(each.skipped)
    return dict(counts)


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
    plan: Plan, sources: Sources, folder: IndexFolder, config: IndexConfig, run: Runner, tell: Callable[[str], None]
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
