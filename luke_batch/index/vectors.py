"""The vectors of entities in a Lance table, `entities.lance`, with the columns that are shown and filtered.

An update copies the table of the last version as links (Lance writes no file twice), replaces the rows that changed and
adds them to the inverted file as a segment with the same cells, see `Update.make`.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import MissingDependencyError
from luke_batch.index.entities import EntityTable, live_batches, open_layers
from luke_batch.index.settings import SearchSettings
from luke_batch.index.versions import link_tree

TABLE = "entities.lance"
FOUND = pa.schema(
    [
        pa.field("query", pa.int32()),
        pa.field("id", pa.int64()),
        pa.field("score", pa.float32()),
        pa.field("key", pa.string()),
        pa.field("name", pa.string()),
        pa.field("label", pa.string()),
        pa.field("languages", pa.list_(pa.string())),
        pa.field("count", pa.int64()),
    ]
)
"""What a search finds: by query, then by score (cosine), highest first."""
_SHOWN = ("id", "key", "name", "label", "languages", "count")
"""Columns of the entity table that are shown and filtered."""
_COLUMNS = (*_SHOWN, "vector")
_SCALARS: dict[str, Literal["BTREE", "BITMAP", "LABEL_LIST"]] = {
    "id": "BTREE",
    "label": "BITMAP",
    "languages": "LABEL_LIST",
    "count": "BTREE",
}
_MOST_UPDATES = 16
"""Each adds a segment that every query looks into."""
_EXACT_BELOW = 20_000
"""Entities below which exact search takes a few milliseconds."""
_LEAST_PROBES = 16
_PROBED_SHARE = 64
_SAMPLE_RATE = 64
"""Vectors of each cell that centroids are trained on."""
_BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """Cells of an inverted file, as the settings and the number of entities have it."""

    variant: str
    """`exact` or a variant of the settings."""
    partitions: int
    probes: int

    @classmethod
    def of(cls, settings: SearchSettings, entities: int) -> "Layout":
        """For so many entities."""
        variant = settings.variant
        if variant == "auto":
            variant = "exact" if entities < _EXACT_BELOW else "IVF_FLAT"
        if variant == "exact" or entities < 2:
            return cls("exact", 0, 0)
        partitions = settings.partitions or 1 << max(0, round(np.log2(entities) / 2))
        partitions = min(partitions, entities)
        probes = settings.probes or max(_LEAST_PROBES, partitions // _PROBED_SHARE)
        return cls(variant, partitions, min(probes, partitions))


@dataclass(frozen=True, slots=True)
class Update:
    """What a vector index is made of."""

    folder: Path
    """Of the version that is built: it has entities/ and gets the vector index."""
    base: Path | None
    """Of the last version, whose vector index may be carried on; None: start anew."""
    facts: Mapping[str, Any]
    """What the vector index of the base says of itself."""
    changes: Sequence[Path]
    """Files of the entity table with the rows that are new or another than in the base, and with count 0 those that are
    gone. Empty without a base."""
    bits: int
    """Of the entity table."""
    entities: int
    dimension: int
    recall: float | None
    """Of the base."""
    changed: int
    """Entities that are new, another or gone."""
    settings: SearchSettings

    def make(self) -> dict[str, Any]:
        """Make the vector index in `folder`; what it says of itself."""
        lance = _lance()
        layout = Layout.of(self.settings, self.entities)
        target = self.folder / TABLE
        shutil.rmtree(target, ignore_errors=True)
        if self.base is not None and self._carries_on(layout):
            link_tree(self.base / TABLE, target)
            self._apply(target, layout)
            probes = self.settings.probes or self.facts["probes"]
            updates = int(self.facts["updates"]) + 1
            return {**self.facts, "probes": probes, "changed": self._since, "updates": updates}
        _write(self._table.reader(_COLUMNS), target, "create")
        if layout.variant != "exact":
            table = lance.dataset(str(target))
            table.create_index(
                "vector",
                layout.variant,
                name="vector",
                metric="cosine",
                num_partitions=layout.partitions,
                sample_rate=_SAMPLE_RATE,
                **_compression(layout.variant, self.dimension),
            )
            for column, kind in _SCALARS.items():
                table.create_scalar_index(column, kind, name=column)
        facts = {"variant": layout.variant, "partitions": layout.partitions, "probes": layout.probes}
        return {**facts, "trained": self.entities, "changed": 0, "updates": 0}

    @property
    def _table(self) -> EntityTable:
        return EntityTable(self.folder, self.bits, self.dimension)

    @property
    def _since(self) -> int:
        """Entities that have changed since cells were trained."""
        return int(self.facts.get("changed", 0)) + self.changed

    def _carries_on(self, layout: Layout) -> bool:
        """Whether the vector index of the base is changed, and its cells stay."""
        facts = self.facts
        if self.base is None or not (self.base / TABLE).exists():
            return False
        wanted = self.settings.partitions or facts["partitions"]
        if facts["variant"] != layout.variant or facts["partitions"] != wanted:
            return False
        return int(facts["updates"]) < _MOST_UPDATES and self._since <= max(1, int(facts["trained"]))

    def _apply(self, target: Path, layout: Layout) -> None:
        ids = [pq.read_table(path, columns=["id"]) for path in self.changes]
        if not ids:
            return
        lance = _lance()
        table = lance.dataset(str(target))
        # Rows in and out in two steps: a merge of both at once holds all vectors in memory.
        table.merge_insert("id").when_matched_delete().execute(pa.concat_tables(ids))
        layers = [layer for path in self.changes for layer in open_layers([path])]
        if any(layer.live.any() for layer in layers):
            schema = self._table.reader(_COLUMNS).schema
            batches = (batch for layer in layers for batch in live_batches(layer, _COLUMNS))
            rows = (batch.select(_COLUMNS).cast(schema) for batch in batches)
            _write(pa.RecordBatchReader.from_batches(schema, rows), target, "append")
            table = lance.dataset(str(target))
            if layout.variant != "exact":
                # A segment of its own: to merge it, Lance would also join cells that it finds small.
                table.optimize.optimize_indices(num_indices_to_merge=0)
        # The copy is ours alone: nobody reads the states on the way.
        table.cleanup_old_versions(older_than=timedelta(0))


class VectorIndex:
    """The vector index of a version, open for searches. MissingDependencyError without Lance.

    Args:
        folder: of the version. facts: what the vector index says of itself.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self._table = _lance().dataset(str(folder / TABLE))
        self._exact = facts["variant"] == "exact"
        self._probes = int(facts["probes"])
        # Compressed vectors are compared by their originals once the nearest are known.
        self._refine = None if facts["variant"] in ("exact", "IVF_FLAT", "IVF_HNSW_FLAT") else 5

    def nearest(self, vectors: FloatArray, k: int, where: str | None = None) -> pa.Table:
        """The `k` nearest entities of each vector, (n, dimension), as a table of schema FOUND.

        where: of those that may be found, as from `condition`.
        """
        if not len(vectors):
            return FOUND.empty_table()
        # All at once: so a cell that several queries look into is read once.
        query: dict[str, Any] = {"column": "vector", "q": vectors, "k": k, "metric": "cosine"}
        if self._exact:
            query["use_index"] = False
        else:
            query |= {"nprobes": self._probes, "refine_factor": self._refine}
        columns = [*_SHOWN, "_distance"]
        found = self._table.to_table(columns=columns, nearest=query, filter=where, prefilter=True)
        scores = pc.call_function("subtract", [pa.scalar(1.0, pa.float32()), found["_distance"]])
        table = found.append_column("score", scores).append_column("query", found["query_index"])
        # Equal scores by key, so that the same index always answers alike.
        table = table.sort_by([("query", "ascending"), ("score", "descending"), ("key", "ascending")])
        return table.select(FOUND.names).cast(FOUND)

    def scan(self, columns: Sequence[str], ids: Sequence[int] | None = None) -> Iterable[pa.RecordBatch]:
        """The columns `id` or `vector` or both of the entities that it finds, in any order.

        ids: of those alone; None: of all.
        """
        only = None if ids is None else f"id IN ({','.join(map(str, ids))})"
        return self._table.to_batches(columns=list(columns), filter=only, batch_size=_BATCH_ROWS)


def condition(labels: Sequence[str], languages: Sequence[str], least: int) -> str | None:
    """In SQL: entities with one of `labels`, of documents in one of `languages`, with at least so many mentions; any
    where empty. None for all entities.
    """
    parts: list[str] = []
    if labels:
        parts.append(f"label IN ({_quoted(labels)})")
    if languages:
        parts.append(f"array_has_any(languages, [{_quoted(languages)}])")
    if least > 1:
        parts.append(f"count >= {least}")
    return " AND ".join(parts) or None


def _quoted(values: Sequence[str]) -> str:
    """SQL strings; a quote inside is doubled."""
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


def read_rows(folder: Path) -> pa.Table:
    """All that a vector table holds."""
    return _lance().dataset(str(folder)).to_table()


def _lance() -> Any:
    """Lance, where it is installed."""
    # Lance warns of what is meant, such as fewer cells than asked for where there are few vectors.
    os.environ.setdefault("LANCE_LOG", "error")
    try:
        import lance
    except ImportError as error:
        raise MissingDependencyError(
            'an index needs pylance: pip install "luke-batch[index]", or pip install pylance'
        ) from error
    return lance


def _write(rows: pa.RecordBatchReader, target: Path, mode: Literal["create", "append"]) -> None:
    """Write rows of the entity table with the columns _COLUMNS."""
    schema = _plain(rows.schema.empty_table()).schema
    tables = (_plain(pa.Table.from_batches([batch])).combine_chunks() for batch in rows)
    batches = (batch for table in tables for batch in table.to_batches())
    _lance().write_dataset(pa.RecordBatchReader.from_batches(schema, batches), str(target), mode=mode)


def _plain(entities: pa.Table) -> pa.Table:
    """A part of the entity table with plain lists of languages."""
    lists = entities["languages"].combine_chunks()
    names = pa.ListArray.from_arrays(lists.offsets, lists.values.field(0))
    return entities.set_column(entities.schema.get_field_index("languages"), "languages", names)


def _compression(variant: str, dimension: int) -> dict[str, Any]:
    if variant != "IVF_PQ":
        return {}
    return {"num_sub_vectors": next(parts for parts in (8, 4, 2, 1) if dimension % parts == 0) * (dimension // 64 or 1)}
