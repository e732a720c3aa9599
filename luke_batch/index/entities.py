"""The entity table of a version: its files, names, and rows by id.

A bucket, a range of ids, has one file with all its entities, and one for each later night with what changed. Of several
rows with one id that of the newest file counts; a row with count 0 says that the entity is gone. So a night writes what
changed and nothing else. Files are joined now and then, see `is_due`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray
from luke_batch.index.groups import Ints, among
from luke_batch.index.keys import ID_BITS, ids_of, name_ids
from luke_batch.index.merge import entity_schema
from luke_batch.index.versions import Version

ROW_GROUP = 1024
"""Rows of a row group: one is read to find the vector of a name."""
_MOST_LAYERS = 8
_STALE = 2
"""Files are joined where they have more than so many times the rows that count."""


@dataclass(frozen=True, slots=True)
class BucketLayer:
    """One file of a bucket."""

    path: Path
    ids: Ints
    """Of its rows, ascending."""
    counts: Ints
    live: NDArray[np.bool_]
    """Rows that no newer file has, of entities that are not gone."""

    def without(self, ids: Ints) -> "BucketLayer":
        """The same file where the rows of `ids`, ascending, do not count."""
        return replace(self, live=self.live & ~among(self.ids, ids))


def layer_name(bucket: int, version: int, digest: str) -> str:
    """File name; those of one bucket sort by version."""
    return f"{bucket:06d}-{version:06d}-{digest}.parquet"


def layers_of(folder: Path, bucket: int | None = None) -> dict[int, list[Path]]:
    """The files of each bucket in `folder`, or of one alone, oldest first."""
    found: defaultdict[int, list[Path]] = defaultdict(list)
    for path in sorted(folder.glob("*.parquet" if bucket is None else f"{bucket:06d}-*.parquet")):
        found[int(path.name.partition("-")[0])].append(path)
    return dict(found)


def open_layers(paths: Sequence[Path]) -> list[BucketLayer]:
    """The files of one bucket, oldest first, and which of their rows count."""
    newer: list[Ints] = []
    found: list[BucketLayer] = []
    for path in reversed(paths):
        table = read_whole(path, ["id", "count"])
        ids, counts = table["id"].to_numpy(), table["count"].to_numpy()
        live = counts > 0
        for others in newer:
            live &= ~among(ids, others)
        found.append(BucketLayer(path, ids, counts, live))
        newer.append(ids)
    return found[::-1]


def live_batches(layer: BucketLayer, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows that count, a row group at a time."""
    start = 0
    with pq.ParquetFile(layer.path) as file:
        # One row group at a time: vectors of two would be copied once more to lie in one batch.
        for batch in file.iter_batches(ROW_GROUP, columns=columns, use_threads=False):
            live = layer.live[start : start + len(batch)]
            start += len(batch)
            if live.any():
                yield batch if live.all() else batch.filter(pa.array(live))


def is_due(bucket: int, version: int, layers: int, rows: int, live: int) -> bool:
    """Whether the files of a bucket are to be joined: many of its rows do not count any more, or it has some
    files and it is its turn. Buckets take turns, so that no night joins the files of all.
    """
    turn = (bucket + version) % _MOST_LAYERS == 0
    return rows > _STALE * live or (turn and layers > _MOST_LAYERS // 2)


def read_whole(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A whole file of the index."""
    with pq.ParquetFile(path) as file:
        batches = list(file.iter_batches(ROW_GROUP, columns=columns, use_threads=False))
        schema = batches[0].schema if batches else file.schema_arrow
    return pa.Table.from_batches(batches, schema)


class EntityTable:
    """The entity table of one version."""

    def __init__(self, folder: Path, bits: int, dimension: int) -> None:
        self.folder = folder
        self._bits = bits
        self.dimension = dimension
        self._layers = layers_of(folder / "entities")
        self._names = sorted((folder / "names").glob("*.parquet"))

    @classmethod
    def of(cls, version: Version) -> Self:
        """That of a finished version."""
        return cls(version.folder, version.manifest.bits, version.manifest.dimension)

    def reader(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """All rows, a batch of some hundred at a time, by bucket; in a bucket the older ones first."""
        schema = entity_schema(self.dimension)
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema))

    def rows(self, ids: Iterable[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of `ids` that exist, by id."""
        wanted = np.unique(np.fromiter(ids, np.int64))
        schema = entity_schema(self.dimension)
        names = schema.names if columns is None else ["id", *(name for name in columns if name != "id")]
        parts = [pa.schema([schema.field(name) for name in names]).empty_table()]
        buckets = wanted >> (ID_BITS - self._bits)
        for bucket in np.unique(buckets).tolist():
            left = wanted[buckets == bucket]
            found: list[pa.Table] = []
            for path in reversed(self._layers.get(bucket, [])):
                rows = _rows(path, left, list(dict.fromkeys([*names, "count"])))
                found.append(rows.filter(pa.array(rows["count"].to_numpy() > 0)).select(names))
                left = np.setdiff1d(left, rows["id"].to_numpy())
            parts += [pa.concat_tables(found).sort_by("id")] if found else []
        return pa.concat_tables(parts)

    def named(self, names: Sequence[str]) -> list[list[int]]:
        """For each of `names` the ids of the entities of that key, qid, title or alias, in any case: those of its key,
        then those with most mentions under it first.
        """
        found: list[list[int]] = []
        keys = ids_of(key for name in names for key in (name, f"qid:{name}", f"title:{name}")).reshape(-1, 3)
        known = self.rows(keys.ravel().tolist(), ["id"])["id"].to_numpy()
        for exact, hashed in zip(keys, name_ids(names).tolist(), strict=True):
            keyed = exact[among(exact, known)].tolist()
            begin, end = np.searchsorted(self._index[0], [hashed, hashed + 1])
            order = np.argsort(-self._index[2][begin:end], kind="stable")
            aliased = self._index[1][begin:end][order].tolist()
            found.append(list(dict.fromkeys([*keyed, *aliased])))
        return found

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for paths in self._layers.values():
            for layer in open_layers(paths):
                for batch in live_batches(layer, schema.names):
                    yield batch.select(schema.names).cast(schema)

    @cached_property
    def _index(self) -> tuple[Ints, Ints, Ints]:
        """name_id, id and count of all names, by name_id; 24 bytes each."""
        tables = [pq.read_table(path) for path in self._names]
        columns = [
            np.concatenate([np.empty(0, np.int64), *(table[name].to_numpy() for table in tables)])
            for name in ("name_id", "id", "count")
        ]
        order = np.argsort(columns[0], kind="stable")
        return columns[0][order], columns[1][order], columns[2][order]


def vectors_of(column: pa.FixedSizeListArray) -> FloatArray:
    """(n, dimension) of a column of vectors."""
    return column.flatten().to_numpy().reshape(-1, column.type.list_size)


def unit(vectors: NDArray[Any]) -> FloatArray:
    """The same directions with length 1."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32, copy=False)


def _rows(path: Path, ids: Ints, columns: list[str]) -> pa.Table:
    """Rows of `ids` of a file that is sorted by id: only row groups that may hold one are read."""
    with pq.ParquetFile(path) as file:
        place = file.schema_arrow.get_field_index("id")
        groups: list[int] = []
        for group in range(file.num_row_groups):
            bounds = file.metadata.row_group(group).column(place).statistics
            if np.searchsorted(ids, bounds.min) < np.searchsorted(ids, bounds.max, side="right"):
                groups.append(group)
        batches = list(file.iter_batches(ROW_GROUP, groups, columns=columns, use_threads=False))
        if not batches:
            return file.schema_arrow.empty_table().select(columns)
        table = pa.Table.from_batches(batches).select(columns)
    return table.filter(pa.array(np.isin(table["id"].to_numpy(), ids)))
