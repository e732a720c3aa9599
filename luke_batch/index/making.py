"""The version that a build makes, once the partial aggregates of all its fragments are there."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from luke_batch.index.manifest import SCHEMA, Held, Manifest, Version
from luke_batch.index.plan import Plan, bucket_bits, digest_of, pack_uses
from luke_batch.index.recall import DEPTH
from luke_batch.index.runners import Runner
from luke_batch.index.settings import IndexConfig
from luke_batch.index.sources import UNKNOWN, Sources
from luke_batch.index.tasks import Bucket, Indexing, Merge
from luke_batch.index.vectors import Update
from luke_batch.index.versions import IndexFolder, link_file


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
        folders = [
            self._merged / kind,
            self._merged / "changes",
            *([] if base is None else [base.folder / kind]),
        ]
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
        self,
        buckets: Sequence[Bucket],
        indexed: dict[str, Any],
        sources: Sources,
        seconds: dict[str, float],
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
