"""The work of a build in independent tasks. Each writes files and returns a few figures, so nothing is
collected.

A task that is done before is not done again: packs are known by the fragments that they name, buckets by the
record that is written after their files.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.corpus.output_file import leaf_columns
from luke_batch.errors import ContractError
from luke_batch.index.entities import EntityTable, read_whole
from luke_batch.index.merge import PackUse, affected_ids, live_rows, merge_rows, names_of
from luke_batch.index.packs import write_pack
from luke_batch.index.partials import aggregate
from luke_batch.index.plan import bucket_range
from luke_batch.index.recall import measure_recall
from luke_batch.index.settings import Policy
from luke_batch.index.sources import Fragment, Sources
from luke_batch.index.vectors import SEARCHED, Update, vector_index
from luke_batch.index.versions import link_file, write_whole

_ROW_GROUP = 1024
"""Rows of a row group of the entity table: one is read to find the vector of a name."""
_REPEATED = ("label", "language")
"""Strings of which there are few."""


@dataclass(frozen=True, slots=True)
class Aggregation:
    """Fragments -> packs."""

    packs: Path
    sources: Sources
    policy: Policy

    def __call__(self, item: Sequence[Fragment]) -> str:
        """Aggregate the fragments of one pack; its name."""
        parts = [
            (one.key, aggregate(self.sources.read(one, self.policy), self.policy, one.path, one.where))
            for one in item
        ]
        return write_pack(self.packs, self.policy.fingerprint, parts)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A merged bucket."""

    number: int
    file: str | None
    """Name of its file of entities and of its file of names; None where it has no entities."""
    entities: int
    mentions: int
    changed: int
    """Entities that are new or another than in the last version."""
    removed: int


@dataclass(frozen=True, slots=True)
class Merge:
    """Packs -> entity table, bucket by bucket."""

    packs: Path
    uses: tuple[PackUse, ...]
    target: Path
    """Folder that gets entities/, names/, changes/ and records/; it is named by what it is made of, see
    `digest_of`."""
    bits: int
    base: Path | None
    """Folder of the last version, where only what changed since is merged."""
    policy: Policy
    aliases: int

    def __call__(self, number: int) -> str:
        """Merge one bucket; its `Bucket` in JSON."""
        record = self._path("records", f"{number:06d}.json")
        if record.exists():
            return record.read_text()
        done = self._merge_all(number) if self.base is None else self._merge_changes(number, self.base)
        text = json.dumps(asdict(done))
        record.parent.mkdir(parents=True, exist_ok=True)
        write_whole(record, text.encode())
        return text

    def _merge_all(self, number: int) -> Bucket:
        rows = live_rows(self.packs, self.uses, *bucket_range(number, self.bits), None)
        if rows is None:
            return Bucket(number, None, 0, 0, 0, 0)
        entities = merge_rows(rows, self.policy, self.aliases)
        self._write(number, entities, names_of(entities))
        return self._bucket(number, entities, len(entities), 0)

    def _merge_changes(self, number: int, base: Path) -> Bucket:
        span = bucket_range(number, self.bits)
        ids = affected_ids(self.packs, self.uses, *span)
        name = next((path.name for path in (base / "entities").glob(f"{number:06d}-*.parquet")), None)
        if not len(ids):
            return self._keep(number, base, name)
        old = None if name is None else read_whole(base / "entities" / name)
        old_names = None if name is None else read_whole(base / "names" / name)
        rows = live_rows(self.packs, self.uses, *span, ids)
        fresh = None if rows is None else merge_rows(rows, self.policy, self.aliases)
        found = np.empty(0, np.int64) if fresh is None else fresh["id"].to_numpy()
        known = np.empty(0, np.int64) if old is None else old["id"].to_numpy()
        removed = np.setdiff1d(ids[np.isin(ids, known)], found)
        self._write_changes(number, fresh, removed)
        entities = [table for table in (fresh, _without(old, ids)) if table is not None]
        if not sum(map(len, entities)):
            return Bucket(number, None, 0, 0, 0, len(removed))
        names = [None if fresh is None else names_of(fresh), _without(old_names, ids)]
        name_order = [("name_id", "ascending"), ("count", "descending"), ("id", "ascending")]
        self._write(
            number,
            whole := pa.concat_tables(entities).sort_by("id"),
            pa.concat_tables([table for table in names if table is not None]).sort_by(name_order),
        )
        return self._bucket(number, whole, len(found), len(removed))

    def _keep(self, number: int, base: Path, name: str | None) -> Bucket:
        if name is None:
            return Bucket(number, None, 0, 0, 0, 0)
        for kind in ("entities", "names"):
            link = self._path(kind, name)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link_file(base / kind / name, link)
        counts = read_whole(base / "entities" / name, ["count"])["count"].to_numpy()
        return Bucket(number, name, len(counts), int(counts.sum()), 0, 0)

    def _bucket(self, number: int, entities: pa.Table, changed: int, removed: int) -> Bucket:
        mentions = int(entities["count"].to_numpy().sum())
        return Bucket(number, self._name(number), len(entities), mentions, changed, removed)

    def _name(self, number: int) -> str:
        return f"{number:06d}-{self.target.name}.parquet"

    def _path(self, kind: str, name: str) -> Path:
        return self.target / kind / name

    def _write(self, number: int, entities: pa.Table, names: pa.Table) -> None:
        ids = entities["id"].to_numpy()
        if (ids[1:] == ids[:-1]).any():
            raise ContractError(
                "two entity keys share an id; this needs an index with longer ids: please report it"
            )
        _write_parquet(names, self._path("names", self._name(number)))
        _write_parquet(entities, self._path("entities", self._name(number)))

    def _write_changes(self, number: int, fresh: pa.Table | None, removed: np.ndarray[Any, Any]) -> None:
        path = self._path("changes", self._name(number))
        gone = path.with_suffix(".removed.parquet")
        _write_parquet(pa.table({"id": pa.array(removed, pa.int64())}), gone)
        if fresh is not None:
            _write_parquet(fresh.select(SEARCHED), path)


def _without(table: pa.Table | None, ids: np.ndarray[Any, Any]) -> pa.Table | None:
    """Rows of all other entities."""
    return None if table is None else table.filter(pa.array(~np.isin(table["id"].to_numpy(), ids)))


def _write_parquet(table: pa.Table, path: Path) -> None:
    """Write `table` as a whole: vectors uncompressed, dictionaries where strings repeat, and statistics by
    which ids are found.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    leaves = leaf_columns(table.schema)
    # pyarrow's annotations know less than its documentation.
    options: Any = {
        "compression": {leaf: "none" if leaf.startswith("vector.") else "snappy" for leaf in leaves},
        "write_statistics": [leaf for leaf in leaves if leaf in ("id", "name_id")],
        "use_dictionary": [leaf for leaf in leaves if leaf.rpartition(".")[2] in _REPEATED],
    }
    pq.write_table(table, temporary, row_group_size=_ROW_GROUP, **options)
    temporary.replace(path)


@dataclass(frozen=True, slots=True)
class Indexing:
    """Entity table -> vector index and its recall."""

    update: Update

    def __call__(self, _: int) -> str:
        """Make both; in JSON what the index says of itself, the recall or null, and seconds."""
        start = time.monotonic()
        folder, settings = self.update.folder, self.update.settings
        index = vector_index(settings.kind)
        facts = index.update(self.update)
        indexed = time.monotonic()
        table = EntityTable(folder, self.update.bits, self.update.dimension)
        found = measure_recall(table, index.open(folder, facts), self.update.entities, settings.recall_sample)
        seconds = {"index": indexed - start, "recall": time.monotonic() - indexed}
        recall = None if found is None else asdict(found)
        return json.dumps({"vectors": facts, "recall": recall, "seconds": seconds})
