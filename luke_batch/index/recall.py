"""recall@10: which share of the ten nearest entities the vector index finds."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import ContractError
from luke_batch.index.entities import unit, vectors_of
from luke_batch.index.groups import Ints, among
from luke_batch.index.vectors import VectorIndex

DEPTH = 10
_ROUNDING = 1e-6
"""Of a cosine in float32."""


@dataclass(frozen=True, slots=True)
class Recall:
    """A measurement."""

    value: float
    sample: int
    """Entities whose neighbours were searched."""


def measure_recall(index: VectorIndex, entities: int, sample: int) -> Recall | None:
    """Compare the index with exact search over all vectors that it holds, which must be as many as there are entities.

    The queries are the vectors of `sample` entities spread evenly over the ids; an entity is no neighbour of its own.
    One that is as near as the tenth within float rounding counts as found, since which of equals comes tenth is
    nobody's fault. None where there is nothing to compare.
    """
    depth = min(DEPTH, entities - 1)
    if depth < 1 or sample < 1:
        return None
    ids = np.sort(np.concatenate([batch.column("id").to_numpy() for batch in index.scan(["id"])]))
    if len(ids) != entities:
        raise ContractError(f"the vector index has {len(ids):,} of {entities:,} entities; please report it")
    wanted = np.unique(np.linspace(0, entities - 1, min(sample, entities)).astype(np.int64))
    rows = pa.Table.from_batches(index.scan(["id", "vector"], ids[wanted].tolist())).sort_by("id")
    own, queries = rows["id"].to_numpy(), unit(vectors_of(rows["vector"].combine_chunks()))
    nearest, cosines = _exact(index, own, queries, depth)
    found = index.nearest(queries, depth + 1)
    owners, hits, scores = (found[name].to_numpy() for name in ("query", "id", "score"))
    shares: list[float] = []
    for number in range(len(queries)):
        mine = np.flatnonzero((owners == number) & (hits != own[number]))[:depth]
        tied = scores[mine] >= cosines[number].min() - _ROUNDING
        shares.append(float((np.isin(hits[mine], nearest[number]) | tied).sum()) / depth)
    return Recall(float(np.mean(shares)), len(queries))


def _exact(index: VectorIndex, own: Ints, queries: FloatArray, depth: int) -> tuple[Ints, FloatArray]:
    """Ids and cosines of the `depth` nearest of each query, (queries, depth), in no order."""
    best_ids = np.full((len(queries), depth), -1, np.int64)
    best = np.full((len(queries), depth), -np.inf, np.float32)
    for batch in index.scan(["id", "vector"]):
        ids, vectors = batch.column("id").to_numpy(), vectors_of(batch.column("vector"))
        cosines = queries @ vectors.T
        cosines /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        here = np.flatnonzero(among(ids, own))
        cosines[np.searchsorted(own, ids[here]), here] = -np.inf
        near = (cosines > best.min(axis=1, keepdims=True)).any(axis=0)
        if not near.any():
            continue
        cosines, ids = np.concatenate([best, cosines[:, near]], axis=1), ids[near]
        every = np.concatenate([best_ids, np.broadcast_to(ids, (len(queries), len(ids)))], axis=1)
        top = np.argpartition(-cosines, depth - 1, axis=1)[:, :depth]
        best, best_ids = np.take_along_axis(cosines, top, 1), np.take_along_axis(every, top, 1)
    return best_ids, best
