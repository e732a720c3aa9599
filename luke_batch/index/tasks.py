"""The work of a build in independent tasks. Each writes files and returns a few figures, so nothing is collected.

A task that is done before is not done again: packs are known by the fragments that they name, buckets by the record
that is written after their files.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.errors import ContractError
from luke_batch.corpus.output_file import leaf_columns
from luke_batch.index.entities import ROW_GROUP, is_due, layer_name, layers_of, live_batches, open_layers, read_whole
from luke_batch.index.groups import Ints, among
from luke_batch.index.merge import PackUse, affected_ids, gone_rows, in_name_order, live_rows, merge_rows, names_of
from luke_batch.index.packs import PackRows, write_pack
from luke_batch.index.partials import aggregate
from luke_batch.index.plan import bucket_range
from luke_batch.index.recall import Recall, measure_recall
from luke_batch.index.settings import Policy
from luke_batch.index.sources import AnnotatedFragment, AnnotatedSources
from luke_batch.index.vectors import Update, VectorIndex
from luke_batch.index.versions import write_whole

_REPEATED = ("label", "language")
"""Strings of which there are few."""


@dataclass(frozen=True, slots=True)
class Aggregation:
    """Fragments -> packs."""

    packs: Path
    sources: AnnotatedSources
    policy: Policy

    def __call__(self, item: Sequence[AnnotatedFragment]) -> str:
        """Aggregate the fragments of one pack; its name."""
        parts = [
            (one.key, aggregate(self.sources.read(one, self.policy), self.policy, one.path, one.where)) for one in item
        ]
        return write_pack(self.packs, self.policy.fingerprint, parts)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A merged bucket."""

    number: int
    files: Sequence[str]
    """Names of its files of entities, oldest first; see `entities`."""
    names: str | None
    """Name of its file of names; None where it has no entities."""
    change: str | None
    """Name of the file with what is new, another or gone since the last version; None where nothing is."""
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
    """Folder that gets entities/, names/, changes/ and records/; it is named by what it is made of, see `digest_of`."""
    version: int
    """Number of the version that is made."""
    bits: int
    dimension: int
    base: Path | None
    """Folder of the last version, where only what changed since is merged."""
    policy: Policy
    aliases: int

    def __call__(self, number: int) -> str:
        """Merge one bucket; its `Bucket` in JSON."""
        record = self.target / "records" / f"{number:06d}.json"
        if record.exists():
            return record.read_text()
        done = self._merge_all(number) if self.base is None else self._merge_changes(number, self.base)
        text = json.dumps(asdict(done))
        record.parent.mkdir(parents=True, exist_ok=True)
        write_whole(record, text.encode())
        return text

    def _merge_all(self, number: int) -> Bucket:
        entities = self._rows(live_rows(self.packs, self.uses, *bucket_range(number, self.bits), None))
        if not len(entities):
            return Bucket(number, (), None, None, 0, 0, 0, 0)
        mentions = int(entities["count"].to_numpy().sum())
        name = self._write("entities", number, entities)
        self._write("names", number, names_of(entities))
        return Bucket(number, (name,), name, None, len(entities), mentions, len(entities), 0)

    def _merge_changes(self, number: int, base: Path) -> Bucket:
        span = bucket_range(number, self.bits)
        old = open_layers(layers_of(base / "entities", number).get(number, []))
        names = next(iter(layers_of(base / "names", number).get(number, [])), None)
        ids = affected_ids(self.packs, self.uses, *span)
        rows = live_rows(self.packs, self.uses, *span, ids) if len(ids) else None
        fresh = self._rows(rows)
        known = np.concatenate([ids[:0], *(layer.ids[layer.live] for layer in old)])
        gone = np.setdiff1d(ids[np.isin(ids, known)], fresh["id"].to_numpy())
        stay = [layer.without(ids) for layer in old]
        entities = len(fresh) + sum(int(layer.live.sum()) for layer in stay)
        mentions = [fresh["count"].to_numpy(), *(layer.counts[layer.live] for layer in stay)]
        figures = entities, int(np.concatenate(mentions).sum()), len(fresh), len(gone)
        files = [layer.path.name for layer in old]
        if not len(fresh) and not len(gone):
            return Bucket(number, files, None if names is None else names.name, None, *figures)
        change = pa.concat_tables([fresh, gone_rows(gone, self.dimension)]).sort_by("id")
        name = self._write("changes", number, change)
        if not entities:
            return Bucket(number, (), None, name, *figures)
        self._write("names", number, _renamed(names, ids, fresh))
        size = sum(len(layer.ids) for layer in old) + len(change)
        if not is_due(number, self.version, len(old) + 1, size, entities):
            return Bucket(number, (*files, name), name, name, *figures)
        tables = [pa.Table.from_batches(live_batches(layer), fresh.schema) for layer in stay]
        self._write("entities", number, pa.concat_tables([*tables, fresh]).sort_by("id"))
        return Bucket(number, (name,), name, name, *figures)

    def _rows(self, rows: PackRows | None) -> pa.Table:
        if rows is None:
            return gone_rows(np.empty(0, np.int64), self.dimension)
        entities = merge_rows(rows, self.policy, self.aliases)
        ids = entities["id"].to_numpy()
        if (ids[1:] == ids[:-1]).any():
            raise ContractError("two entity keys share an id; this needs an index with longer ids: please report it")
        return entities

    def _write(self, kind: str, number: int, table: pa.Table) -> str:
        name = layer_name(number, self.version, self.target.name)
        _write_parquet(table, self.target / kind / name)
        return name


def _renamed(old: Path | None, ids: Ints, fresh: pa.Table) -> pa.Table:
    """The names of a bucket whose entities `ids` have become the rows `fresh`."""
    names = names_of(fresh)
    if old is None:
        return names
    kept = read_whole(old)
    kept = kept.filter(pa.array(~among(kept["id"].to_numpy(), ids)))
    return in_name_order(pa.concat_tables([kept, names]))


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
    pq.write_table(table, temporary, row_group_size=ROW_GROUP, **options)
    temporary.replace(path)


@dataclass(frozen=True, slots=True)
class Indexing:
    """Entity table -> vector index and its recall."""

    update: Update

    def __call__(self, _: int) -> str:
        """Make both; in JSON what the index says of itself, the recall or null, and seconds."""
        facts, recall, seconds = self._make(self.update)
        floor, before = self.update.settings.recall_floor, self.update.recall
        carried_on = facts.get("updates", 0) > 0
        if recall is not None and recall.value < floor and carried_on and (before is None or before >= floor):
            # The cells may be to blame, unless the last index was no better.
            facts, recall, again = self._make(replace(self.update, base=None))
            seconds = {step: seconds[step] + again[step] for step in seconds}
        found = None if recall is None else asdict(recall)
        return json.dumps({"vectors": facts, "recall": found, "seconds": seconds})

    def _make(self, update: Update) -> tuple[dict[str, Any], Recall | None, dict[str, float]]:
        start = time.monotonic()
        facts = update.make()
        indexed = time.monotonic()
        opened = VectorIndex(update.folder, facts)
        recall = measure_recall(opened, update.entities, update.settings.recall_sample)
        return facts, recall, {"index": indexed - start, "recall": time.monotonic() - indexed}
