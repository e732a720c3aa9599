"""The vectors of entities in a Lance table, with the columns that are shown and filtered.

An update copies the table of the last version as links (Lance writes no file twice), replaces the rows that
changed and adds them to the inverted file as a segment with the same cells, see `Update.carries_on`.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import MissingDependencyError
from luke_batch.index.entities import EntityTable
from luke_batch.index.layers import live_batches, open_layers
from luke_batch.index.vectors import FOUND, SEARCHED, SHOWN, Filter, Layout, Update, searched
from luke_batch.index.versions import link_tree

# Lance warns of what is meant, such as fewer cells than asked for where there are few vectors.
os.environ.setdefault("LANCE_LOG", "error")
try:
    import lance
except ImportError as error:
    raise MissingDependencyError(
        'a Lance index needs pylance: pip install "luke-batch[index]", or pip install pylance lancedb'
    ) from error

TABLE = "entities.lance"
_BATCH_ROWS = 4096
_SAMPLE_RATE = 64
"""Vectors of each cell that centroids are trained on."""
_SCALARS: dict[str, Literal["BTREE", "BITMAP", "LABEL_LIST"]] = {
    "id": "BTREE",
    "label": "BITMAP",
    "languages": "LABEL_LIST",
    "count": "BTREE",
}


class LanceVectors:
    """`kind: lance`."""

    def update(self, update: Update) -> dict[str, Any]:
        """See `VectorIndex`."""
        layout = Layout.of(update.settings, update.entities)
        target = update.folder / TABLE
        shutil.rmtree(target, ignore_errors=True)
        carried_on = update.carries_on(layout, TABLE)
        if carried_on and update.base is not None:
            link_tree(update.base / TABLE, target)
            _apply(update, target, layout)
            return update.described(layout, carried_on=True)
        _write(update.table.reader(SEARCHED), target, "create")
        table = lance.dataset(str(target))
        if layout.variant != "exact":
            table.create_index(
                "vector",
                layout.variant,
                name="vector",
                metric="cosine",
                num_partitions=layout.partitions,
                sample_rate=_SAMPLE_RATE,
                **_compression(layout.variant, update.dimension),
            )
            for column, kind in _SCALARS.items():
                table.create_scalar_index(column, kind, name=column)
        return update.described(layout, carried_on=False)

    def open(self, table: EntityTable, facts: Mapping[str, Any]) -> "LanceSearcher":
        """See `VectorIndex`."""
        return LanceSearcher(lance.dataset(str(table.folder / TABLE)), facts)


class LanceSearcher:
    """An open Lance table."""

    def __init__(self, table: Any, facts: Mapping[str, Any]) -> None:
        self._table = table
        self._exact = facts["variant"] == "exact"
        self._probes = int(facts["probes"])
        # Compressed vectors are compared by their originals once the nearest are known.
        self._refine = None if facts["variant"] in ("exact", "IVF_FLAT", "IVF_HNSW_FLAT") else 5

    def nearest(self, vectors: FloatArray, k: int, filter: Filter) -> pa.Table:
        """See `Searcher`."""
        if not len(vectors):
            return FOUND.empty_table()
        # All at once: so a cell that several queries look into is read once.
        query: dict[str, Any] = {"column": "vector", "q": vectors, "k": k, "metric": "cosine"}
        if self._exact:
            query["use_index"] = False
        else:
            query |= {"nprobes": self._probes, "refine_factor": self._refine}
        found = self._table.to_table(
            columns=[*SHOWN, "_distance"],
            nearest=query,
            filter=_condition(filter),
            prefilter=True,
        )
        scores = pc.call_function("subtract", [pa.scalar(1.0, pa.float32()), found["_distance"]])
        table = found.append_column("score", scores)
        table = table.append_column("query", found["query_index"])
        # Equal scores by key, so that the same index always answers alike.
        table = table.sort_by([("query", "ascending"), ("score", "descending"), ("key", "ascending")])
        return table.select(FOUND.names).cast(FOUND)

    def scan(self, columns: Sequence[str], ids: Sequence[int] | None = None) -> Iterable[pa.RecordBatch]:
        """See `Searcher`."""
        only = None if ids is None else f"id IN ({','.join(map(str, ids))})"
        return self._table.to_batches(columns=list(columns), filter=only, batch_size=_BATCH_ROWS)


def _apply(update: Update, target: Path, layout: Layout) -> None:
    ids = [pq.read_table(path, columns=["id"]) for path in update.changes]
    if not ids:
        return
    table = lance.dataset(str(target))
    # Rows in and out in two steps: a merge of both at once holds all vectors in memory.
    table.merge_insert("id").when_matched_delete().execute(pa.concat_tables(ids))
    layers = [layer for path in update.changes for layer in open_layers([path])]
    if any(layer.live.any() for layer in layers):
        schema = update.table.reader(SEARCHED).schema
        batches = (batch for layer in layers for batch in live_batches(layer, SEARCHED))
        _write(
            pa.RecordBatchReader.from_batches(schema, (batch.select(SEARCHED).cast(schema) for batch in batches)),
            target,
            "append",
        )
        table = lance.dataset(str(target))
        if layout.variant != "exact":
            # A segment of its own: to merge it, Lance would also join cells that it finds small.
            table.optimize.optimize_indices(num_indices_to_merge=0)
    # The copy is ours alone: nobody reads the states on the way.
    table.cleanup_old_versions(older_than=timedelta(0))


def _write(rows: pa.RecordBatchReader, target: Path, mode: Literal["create", "append"]) -> None:
    """Write rows with the columns SEARCHED of the entity table."""
    schema = searched(rows.schema.empty_table()).schema
    tables = (searched(pa.Table.from_batches([batch])).combine_chunks() for batch in rows)
    batches = (batch for table in tables for batch in table.to_batches())
    lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches), str(target), mode=mode)


def _compression(variant: str, dimension: int) -> dict[str, Any]:
    if variant != "IVF_PQ":
        return {}
    return {"num_sub_vectors": next(parts for parts in (8, 4, 2, 1) if dimension % parts == 0) * (dimension // 64 or 1)}


def _condition(filter: Filter) -> str | None:
    """The filter in SQL; strings are quoted, and a quote inside is doubled."""
    parts: list[str] = []
    if filter.labels:
        parts.append(f"label IN ({_quoted(filter.labels)})")
    if filter.languages:
        parts.append(f"array_has_any(languages, [{_quoted(filter.languages)}])")
    if filter.least > 1:
        parts.append(f"count >= {filter.least}")
    return " AND ".join(parts) or None


def _quoted(values: Any) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)
