"""The files of a bucket of the entity table: one with all its entities, and one for each later night with
what changed.

Of several rows with one id that of the newest file counts; a row with count 0 says that the entity is gone.
So a night writes what changed and nothing else. Files are joined now and then, see `is_due`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from luke_batch.index.counts import Ints, among

ROW_GROUP = 1024
"""Rows of a row group: one is read to find the vector of a name."""
_MOST_LAYERS = 8
_STALE = 2
"""Files are joined where they have more than so many times the rows that count."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of a bucket."""

    path: Path
    ids: Ints
    """Of its rows, ascending."""
    counts: Ints
    live: NDArray[np.bool_]
    """Rows that no newer file has, of entities that are not gone."""

    def without(self, ids: Ints) -> "Layer":
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


def open_layers(paths: Sequence[Path]) -> list[Layer]:
    """The files of one bucket, oldest first, and which of their rows count."""
    newer: list[Ints] = []
    found: list[Layer] = []
    for path in reversed(paths):
        table = read_whole(path, ["id", "count"])
        ids, counts = table["id"].to_numpy(), table["count"].to_numpy()
        live = counts > 0
        for others in newer:
            live &= ~among(ids, others)
        found.append(Layer(path, ids, counts, live))
        newer.append(ids)
    return found[::-1]


def live_batches(layer: Layer, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
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
