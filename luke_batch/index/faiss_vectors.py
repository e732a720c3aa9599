"""The vectors of entities in one file that FAISS reads, `entities.faiss`: unit vectors, inner product, ids.

FAISS keeps no columns, so what is shown and filtered comes from the entity table, whose columns without
vectors are held in memory. An update writes the file anew, since FAISS has no way to share what stays, but
looks for the cells of changed vectors alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import ConfigError, MissingDependencyError
from luke_batch.index.entities import EntityTable, unit, vectors_of
from luke_batch.index.layers import live_batches, open_layers
from luke_batch.index.vectors import FOUND, SHOWN, Filter, Layout, Update, searched

try:
    import faiss
except ImportError as error:
    raise MissingDependencyError(
        'a FAISS index needs faiss: pip install "luke-batch[index]", or pip install faiss-cpu'
    ) from error

FILE = "entities.faiss"
_TRAINING_VECTORS = 64
"""Vectors of each cell that centroids are trained on."""


class FaissVectors:
    """`kind: faiss`."""

    def update(self, update: Update) -> dict[str, Any]:
        """See `VectorIndex`."""
        layout = Layout.of(update.settings, update.entities)
        if layout.variant not in ("exact", "IVF_FLAT"):
            raise ConfigError(f"--kind faiss has no {layout.variant}; use exact or IVF_FLAT, or --kind lance")
        carried_on = update.carries_on(layout, FILE)
        if carried_on and update.base is not None:
            index = faiss.read_index(str(update.base / FILE))
            _apply(update, index)
        else:
            index = _trained(update, layout)
            for ids, vectors in update.table.batches():
                index.add_with_ids(unit(vectors), ids)
        faiss.write_index(index, str(update.folder / FILE))
        return update.described(layout, carried_on=carried_on)

    def open(self, table: EntityTable, facts: Mapping[str, Any]) -> "FaissSearcher":
        """See `VectorIndex`."""
        return FaissSearcher(table, facts)


class FaissSearcher:
    """An open FAISS file with the entity table beside it."""

    def __init__(self, table: EntityTable, facts: Mapping[str, Any]) -> None:
        self._table = table
        self._index = faiss.read_index(str(table.folder / FILE))
        self._probes = None if facts["variant"] == "exact" else int(facts["probes"])

    def nearest(self, vectors: FloatArray, k: int, filter: Filter) -> pa.Table:
        """See `Searcher`."""
        parameters: Any = faiss.SearchParameters() if self._probes is None else faiss.SearchParametersIVF()
        if self._probes is not None:
            parameters.nprobe = self._probes
        if not filter.is_open:
            allowed = self._columns["id"].to_numpy()[self._allowed(filter)]
            parameters.sel = faiss.IDSelectorBatch(np.ascontiguousarray(allowed))
        scores, ids = self._index.search(np.ascontiguousarray(unit(vectors)), k, params=parameters)
        found = ids >= 0  # -1 where fewer were found
        rows = self._columns.take(pa.array(np.searchsorted(self._columns["id"].to_numpy(), ids[found])))
        queries = np.repeat(np.arange(len(vectors), dtype=np.int32), found.sum(axis=1))
        table = rows.append_column("query", pa.array(queries))
        table = table.append_column("score", pa.array(scores[found]))
        order = [("query", "ascending"), ("score", "descending"), ("key", "ascending")]
        return table.sort_by(order).select(FOUND.names).cast(FOUND)

    def scan(self, columns: Sequence[str], ids: Sequence[int] | None = None) -> Iterable[pa.RecordBatch]:
        """See `Searcher`. Vectors are those of the entity table, which FAISS has scaled."""
        return self._table.reader(columns) if ids is None else self._table.rows(ids, columns).to_batches()

    @cached_property
    def _columns(self) -> pa.Table:
        """The columns that are shown, by id."""
        return searched(self._table.reader(SHOWN).read_all().sort_by("id"))

    def _allowed(self, filter: Filter) -> NDArray[np.bool_]:
        table = self._columns
        kept = table["count"].to_numpy() >= filter.least
        if filter.labels:
            kept &= np.isin(np.array(table["label"].to_pylist(), object), filter.labels)
        if filter.languages:
            wanted = set(filter.languages)
            kept &= np.array([not wanted.isdisjoint(each) for each in table["languages"].to_pylist()])
        return kept


def _apply(update: Update, index: Any) -> None:
    layers = [layer for path in update.changes for layer in open_layers([path])]
    if layers:
        index.remove_ids(faiss.IDSelectorBatch(np.concatenate([layer.ids for layer in layers])))
    for layer in layers:
        for batch in live_batches(layer, ["id", "vector"]):
            index.add_with_ids(unit(vectors_of(batch.column("vector"))), batch.column("id").to_numpy())


def _trained(update: Update, layout: Layout) -> Any:
    """An empty index."""
    if layout.variant == "exact":
        return faiss.IndexIDMap2(faiss.IndexFlatIP(update.dimension))
    description = f"IVF{layout.partitions},Flat"
    index = faiss.index_factory(update.dimension, description, faiss.METRIC_INNER_PRODUCT)
    index.train(_training_set(update.table, update.entities, layout.partitions * _TRAINING_VECTORS))
    return index


def _training_set(table: EntityTable, entities: int, most: int) -> FloatArray:
    """Every n-th vector, so that about `most` are taken."""
    step = max(1, entities // most)
    return np.concatenate([unit(vectors[::step]) for _, vectors in table.batches()])
