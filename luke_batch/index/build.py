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
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

from luke_batch.base.errors import InputError
from luke_batch.index.packs import Repacking, held_in, to_repack
from luke_batch.index.plan import IndexPlan, bucket_bits, digest_of, make_plan, pack_uses
from luke_batch.index.recall import DEPTH
from luke_batch.index.settings import IndexConfig
from luke_batch.index.sources import UNKNOWN, AnnotatedSources
from luke_batch.index.tasks import Aggregation, Bucket, Indexing, Merge
from luke_batch.index.vectors import Update
from luke_batch.index.versions import SCHEMA, Held, IndexFolder, IndexManifest, Version, link_file

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
class BuiltIndex:
    """A finished build."""

    version: Version
    nothing_to_do: bool
    """The index held exactly these fragments already."""
    warnings: Sequence[str]
    seconds: float


def build(
    sources: AnnotatedSources,
    folder: IndexFolder,
    config: IndexConfig,
    runner_for: RunnerFor = lambda _: in_threads,
    tell: Callable[[str], None] = lambda _: None,
    *,
    afresh: bool = False,
) -> BuiltIndex:
    """Make the index hold exactly the fragments of `sources`.

    Args:
        sources: annotated outputs. folder: of the index. config: its settings. runner_for: chooses what runs the tasks.
        tell: is told each step in a line. afresh: nothing of what the index holds is taken over, or stays beside it.

    Raises:
        UsageError: something cannot be used; the index is as it was.
        IncompleteError: the folder can no longer be written; the same command goes on.
    """
    start = time.monotonic()
    with folder.locked():
        plan = make_plan(folder, sources, config, afresh=afresh)
        base = plan.base
        if plan.nothing_to_do and base is not None and base.config == config:
            # A build that was killed after its version was published has not tidied up.
            folder.tidy(base.manifest.number, {each.pack for each in plan.kept})
            return BuiltIndex(base, True, _warnings(base.manifest), time.monotonic() - start)
        steps = _Steps(plan, sources, folder, config, runner_for(plan.bytes), tell)
        steps.lap("plan", start)
        if afresh:
            folder.drop_unfinished()
        version = steps.publish()
        if afresh:
            folder.tidy(version.manifest.number, {each.pack for each in version.held()}, kept=1)
    return BuiltIndex(version, False, _warnings(version.manifest), time.monotonic() - start)


class _Steps:
    """The version that is built, step by step."""

    def __init__(
        self,
        plan: IndexPlan,
        sources: AnnotatedSources,
        folder: IndexFolder,
        config: IndexConfig,
        run: Runner,
        tell: Callable[[str], None],
    ) -> None:
        self._plan, self._sources, self._folder, self._config = plan, sources, folder, config
        self._run, self._tell = run, tell
        self._seconds: dict[str, float] = {}

    def lap(self, step: str, since: float) -> float:
        """Note how long a step has taken; the time now."""
        now = time.monotonic()
        self._seconds[step] = round(now - since, 3)
        return now

    def publish(self) -> Version:
        """Take all steps and make what they give the current version."""
        begun = time.monotonic()
        held = self._repacked(self._aggregated())
        begun = self.lap("aggregate", begun)
        first, before = held[0].fragment, self._plan.base
        rows = sum(each.rows for each in held)
        bits = bucket_bits(rows, first.dimension, None if before is None else before.manifest.bits)
        base = self._base(bits, first.dimension)
        merged = self._folder.building / digest_of(held, self._config, bits, base)
        self._tell(f"merging {rows:,} partial aggregates, {1 << bits} buckets of entities")
        buckets = self._merged(held, merged, bits, base)
        self._lay_out(buckets, merged, base)
        self.lap("merge", begun)
        self._tell(f"indexing the vectors of {sum(bucket.entities for bucket in buckets):,} entities")
        indexed = self._indexed(buckets, merged, bits, base, first.dimension)
        return self._folder.publish(self._manifest(held, buckets, indexed, bits), held)

    def _base(self, bits: int, dimension: int) -> Version | None:
        """The version to carry on: one with the same buckets, model and columns."""
        base = self._plan.base
        if base is None or base.manifest.bits != bits or base.manifest.dimension != dimension:
            return None
        return base if base.config.search.aliases == self._config.search.aliases else None

    def _aggregated(self) -> list[Held]:
        """All live fragments with their partial aggregates."""
        held, packs = list(self._plan.kept), self._folder.packs
        fragments = {one.key: one for pack in self._plan.packs for one in pack}
        if fragments:
            self._tell(f"aggregating {len(fragments):,} fragments")
        for name in self._run(Aggregation(packs, self._sources, self._config.policy), self._plan.packs):
            held += held_in(packs / name, fragments)
        if not any(each.mentions for each in held):
            why = "; ".join(f"{count:,} {reason}" for reason, count in _skipped(held).items())
            names = ", ".join(member.name for member in self._sources.members)
            raise InputError(
                f"ANNOTATED {names}: no mention can be indexed ({why or 'they have no mentions'}); nothing was changed"
            )
        return held

    def _repacked(self, held: list[Held]) -> list[Held]:
        """The same fragments by key, in fewer packs where there are too many."""
        packs, by_key = self._folder.packs, {each.fragment.key: each for each in held}
        fragments = {key: each.fragment for key, each in by_key.items()}
        for name in self._run(Repacking(packs), to_repack(packs, held, self._plan.number)):
            by_key |= {each.fragment.key: each for each in held_in(packs / name, fragments)}
        return [by_key[key] for key in sorted(by_key)]

    def _merged(self, held: list[Held], target: Path, bits: int, base: Version | None) -> list[Bucket]:
        task = Merge(
            packs=self._folder.packs,
            uses=pack_uses(self._folder.packs, held, self._plan, base),
            target=target,
            version=self._plan.number,
            bits=bits,
            dimension=held[0].fragment.dimension,
            base=None if base is None else base.folder,
            policy=self._config.policy,
            aliases=self._config.search.aliases,
        )
        return [Bucket(**json.loads(text)) for text in self._run(task, range(1 << bits))]

    def _lay_out(self, buckets: Sequence[Bucket], merged: Path, base: Version | None) -> None:
        """Link the files of the version: what was merged, what changed alone, or what the last version has."""
        names = {bucket.names for bucket in buckets if bucket.names is not None}
        for kind, files in (("entities", {name for bucket in buckets for name in bucket.files}), ("names", names)):
            sources = [merged / kind, merged / "changes", *([] if base is None else [base.folder / kind])]
            folder = self._folder.building / "version" / kind
            folder.mkdir(parents=True, exist_ok=True)
            present = {path.name for path in folder.iterdir()}
            for name in present - files:
                (folder / name).unlink()
            for name in files - present:
                link_file(next(path for source in sources if (path := source / name).exists()), folder / name)

    def _indexed(
        self, buckets: Sequence[Bucket], merged: Path, bits: int, base: Version | None, dimension: int
    ) -> dict[str, Any]:
        """Index the vectors and measure recall; see `Indexing`."""
        update = Update(
            folder=self._folder.building / "version",
            base=None if base is None else base.folder,
            facts={} if base is None else base.manifest.vectors,
            changes=[merged / "changes" / bucket.change for bucket in buckets if bucket.change],
            bits=bits,
            entities=sum(bucket.entities for bucket in buckets),
            dimension=dimension,
            recall=None if base is None or base.manifest.recall is None else base.manifest.recall["value"],
            changed=sum(bucket.changed + bucket.removed for bucket in buckets),
            settings=self._config.search,
        )
        (text,) = self._run(Indexing(update), [0], alone=True)
        return cast("dict[str, Any]", json.loads(text))

    def _manifest(
        self, held: Sequence[Held], buckets: Sequence[Bucket], indexed: dict[str, Any], bits: int
    ) -> IndexManifest:
        """What the version says of itself."""
        first, recall = held[0].fragment, indexed["recall"]
        if recall is not None:
            recall |= {"depth": DEPTH, "floor": self._config.search.recall_floor}
        return IndexManifest(
            schema=SCHEMA,
            number=self._plan.number,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            luke_batch=version("luke-batch"),
            config=self._config.model_dump(mode="json"),
            bits=bits,
            dimension=first.dimension,
            model_id=first.model,
            model=self._model(first.model),
            sources=[member.name for member in self._sources.members],
            entities=sum(bucket.entities for bucket in buckets),
            mentions=sum(bucket.mentions for bucket in buckets),
            skipped=_skipped(held),
            changes={
                **self._plan.changes(),
                "entities_changed": sum(bucket.changed for bucket in buckets),
                "entities_removed": sum(bucket.removed for bucket in buckets),
            },
            vectors=indexed["vectors"],
            recall=recall,
            seconds=self._seconds | {step: round(value, 3) for step, value in indexed["seconds"].items()},
        )

    def _model(self, identity: str) -> dict[str, Any] | None:
        found, base = self._sources.model(identity), self._plan.base
        if found is None and base is not None and base.manifest.model_id == identity:
            return base.manifest.model
        return None if found is None or found.path == UNKNOWN else asdict(found)


def _skipped(held: Sequence[Held]) -> dict[str, int]:
    """Mentions that were left out, by reason."""
    counts: Counter[str] = Counter()
    for each in held:
        counts.update(each.skipped)
    return dict(counts)


def _warnings(manifest: IndexManifest) -> list[str]:
    found = [f"{count:,} mentions {reason} are left out" for reason, count in manifest.skipped.items()]
    if others := manifest.changes.get("of_another_model"):
        found.append(
            f"{others:,} files are left out: their vectors are of another model or dimension than most, and cannot be"
            " compared; annotate them with one model, or build one index for each"
        )
    recall = manifest.recall
    if recall is not None and recall["value"] < recall["floor"]:
        found.append(
            f"recall@{recall['depth']} is {recall['value']:.3f}, below {recall['floor']:g}: raise --probes,"
            " or choose another --variant"
        )
    return found
