"""The vectors of entities in a Lance table, with the columns that are shown and filtered.

An update copies the table of the last version as links (Lance writes no file twice), replaces the rows that
changed and adds them to the inverted file as a segment with the same cells. Cells are trained anew once half
of the entities have changed since, after 16 updates, or where the settings ask for others.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luke_batch.arrays import FloatArray
from luke_batch.errors import MissingDependencyError
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
_BATCH_ROWS = 8192
_REMOVED_AT_ONCE = 10_000
_TRAIN_SHARE = 0.5
_MOST_UPDATES = 16
"""Each update adds a segment that every query looks into."""
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
        since = int(update.facts.get("changed", 0)) + update.changed
        if _carries_on(update, layout, since):
            assert update.base is not None
            link_tree(update.base / TABLE, target)
            _apply(update, target, layout)
            probes = update.settings.probes or update.facts["probes"]
            updates = int(update.facts["updates"]) + 1
            return {**update.facts, "probes": probes, "changed": since, "updates": updates}
        _write(update, target)
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
        facts = {"variant": layout.variant, "partitions": layout.partitions, "probes": layout.probes}
        return {**facts, "trained": update.entities, "changed": 0, "updates": 0}

    def open(self, folder: Path, facts: Mapping[str, Any]) -> "LanceSearcher":
        """See `VectorIndex`."""
        return LanceSearcher(lance.dataset(str(folder / TABLE)), facts)


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
        condition = _condition(filter)
        parts = [self._nearest(number, vector, k, condition) for number, vector in enumerate(vectors)]
        return pa.concat_tables(parts) if parts else FOUND.empty_table()

    def _nearest(self, number: int, vector: FloatArray, k: int, condition: str | None) -> pa.Table:
        query: dict[str, Any] = {"column": "vector", "q": vector, "k": k, "metric": "cosine"}
        if self._exact:
            query["use_index"] = False
        else:
            query |= {"nprobes": self._probes, "refine_factor": self._refine}
        found = self._table.to_table(
            columns=[*SHOWN, "_distance"],
            nearest=query,
            filter=condition,
            prefilter=True,
        )
        scores = pc.call_function("subtract", [pa.scalar(1.0, pa.float32()), found["_distance"]])
        table = found.append_column("score", scores)
        table = table.append_column("query", pa.array(np.full(len(found), number, np.int32)))
        # Equal scores by key, so that the same index always answers alike.
        table = table.sort_by([("score", "descending"), ("key", "ascending")])
        return table.select(FOUND.names).cast(FOUND)


def _carries_on(update: Update, layout: Layout, since: int) -> bool:
    facts = update.facts
    if update.base is None or update.changes is None or not (update.base / TABLE).exists():
        return False
    wanted = update.settings.partitions or facts["partitions"]
    if facts["variant"] != layout.variant or facts["partitions"] != wanted:
        return False
    return int(facts["updates"]) < _MOST_UPDATES and since <= _TRAIN_SHARE * max(1, int(facts["trained"]))


def _apply(update: Update, target: Path, layout: Layout) -> None:
    table = lance.dataset(str(target))
    assert update.changes is not None
    gone = sorted(update.changes.glob("*.removed.parquet"))
    for path in gone:
        ids = pq.read_table(path)["id"].to_pylist()
        for start in range(0, len(ids), _REMOVED_AT_ONCE):
            table.delete(f"id IN ({','.join(map(str, ids[start : start + _REMOVED_AT_ONCE]))})")
    fresh = [path for path in sorted(update.changes.glob("*.parquet")) if path not in gone]
    if fresh:
        merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(_reader(fresh))
        if layout.variant != "exact":
            # A segment of its own: to merge it, Lance would also join cells that it finds small.
            table.optimize.optimize_indices(num_indices_to_merge=0)
    # The copy is ours alone: nobody reads the states on the way.
    table.cleanup_old_versions(older_than=timedelta(0))


def _write(update: Update, target: Path) -> None:
    lance.write_dataset(_reader(update.files), str(target), mode="create")


def _reader(files: list[Path]) -> pa.RecordBatchReader:
    schema = searched(pq.read_schema(files[0]).empty_table().select(SEARCHED)).schema
    return pa.RecordBatchReader.from_batches(schema, _batches(files, schema))


def _batches(files: list[Path], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(SEARCHED), use_threads=False):
                table = searched(pa.Table.from_batches([batch])).select(SEARCHED).cast(schema)
                yield from table.combine_chunks().to_batches()


def _compression(variant: str, dimension: int) -> dict[str, Any]:
    if variant != "IVF_PQ":
        return {}
    return {
        "num_sub_vectors": next(parts for parts in (8, 4, 2, 1) if dimension % parts == 0)
        * (dimension // 64 or 1)
    }


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
