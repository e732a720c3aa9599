"""What an index over the vectors of entities must do. `lance_vectors` and `faiss_vectors` do it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from luke_batch.base.arrays import FloatArray
from luke_batch.index.entities import EntityTable
from luke_batch.index.settings import SearchSettings

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
SHOWN = ("id", "key", "name", "label", "languages", "count")
"""Columns of the entity table that are shown and filtered."""
SEARCHED = (*SHOWN, "vector")
_MOST_UPDATES = 16
"""Each adds a segment to a Lance table that every query looks into."""
_EXACT_BELOW = 20_000
"""Entities below which exact search takes a few milliseconds."""
_LEAST_PROBES = 16
_PROBED_SHARE = 64


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entities may be found."""

    labels: Sequence[str] = ()
    """Any of these; all where empty."""
    languages: Sequence[str] = ()
    """In any of these; all where empty."""
    least: int = 1
    """Least number of mentions."""

    @property
    def is_open(self) -> bool:
        """Everything may be found."""
        return not self.labels and not self.languages and self.least <= 1


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
    """Files of the entity table with the rows that are new or another than in the base, and with count 0
    those that are gone. Empty without a base."""
    bits: int
    """Of the entity table."""
    entities: int
    dimension: int
    recall: float | None
    """Of the base."""
    changed: int
    """Entities that are new, another or gone."""
    settings: SearchSettings

    @property
    def table(self) -> EntityTable:
        """The entity table."""
        return EntityTable(self.folder, self.bits, self.dimension)

    @property
    def _since(self) -> int:
        """Entities that have changed since cells were trained."""
        return int(self.facts.get("changed", 0)) + self.changed

    def carries_on(self, layout: "Layout", file: str) -> bool:
        """Whether the vector index `file` of the base is changed, and its cells stay."""
        facts = self.facts
        if self.base is None or not (self.base / file).exists():
            return False
        wanted = self.settings.partitions or facts["partitions"]
        if facts["variant"] != layout.variant or facts["partitions"] != wanted:
            return False
        return int(facts["updates"]) < _MOST_UPDATES and self._since <= max(1, int(facts["trained"]))

    def described(self, layout: "Layout", *, carried_on: bool) -> dict[str, Any]:
        """What the vector index says of itself."""
        if carried_on:
            probes = self.settings.probes or self.facts["probes"]
            updates = int(self.facts["updates"]) + 1
            return {**self.facts, "probes": probes, "changed": self._since, "updates": updates}
        facts = {"variant": layout.variant, "partitions": layout.partitions, "probes": layout.probes}
        return {**facts, "trained": self.entities, "changed": 0, "updates": 0}


class Searcher(Protocol):
    """An open vector index."""

    def nearest(self, vectors: FloatArray, k: int, filter: Filter) -> pa.Table:
        """The `k` nearest entities of each vector, (n, dimension), as a table of schema FOUND."""
        ...

    def scan(self, columns: Sequence[str], ids: Sequence[int] | None = None) -> Iterable[pa.RecordBatch]:
        """The columns `id` or `vector` or both of the entities that it finds, in any order.

        ids: of those alone; None: of all.
        """
        ...


class VectorIndex(Protocol):
    """One kind of vector index."""

    def update(self, update: Update) -> dict[str, Any]:
        """Make the index in `update.folder`; what it says of itself: `variant`, `partitions`, `probes` and
        whatever it needs next time.
        """
        ...

    def open(self, table: EntityTable, facts: Mapping[str, Any]) -> Searcher:
        """Open the index of a version, which lies beside its entity table."""
        ...


def vector_index(kind: str) -> VectorIndex:
    """The implementation of `kind`. MissingDependencyError where its library is missing."""
    if kind == "faiss":
        from luke_batch.index.faiss_vectors import FaissVectors

        return FaissVectors()
    from luke_batch.index.lance_vectors import LanceVectors

    return LanceVectors()


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


def searched(entities: pa.Table) -> pa.Table:
    """A part of the entity table with plain lists of languages."""
    lists = entities["languages"].combine_chunks()
    names = pa.ListArray.from_arrays(lists.offsets, lists.values.field(0))
    return entities.set_column(entities.schema.get_field_index("languages"), "languages", names)
