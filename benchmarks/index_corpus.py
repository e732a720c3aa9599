"""Annotated documents that never lie on a disk: entities around Gaussian centres, mentions around entities.

Every fragment is made anew from its number, the same each time. Each entity is mentioned the same number of
times, in fragments far apart, so nearly every mention is a partial aggregate of its own: the hardest corpus
for an index.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from luke_batch.base.arrays import FloatArray
from luke_batch.index.settings import Policy
from luke_batch.index.sources import AnnotatedFragment, Model

MENTION = pa.struct([(name, pa.int32()) for name in ("start", "end")] + [
    (name, pa.string()) for name in ("text", "label", "title", "qid")
])  # fmt: skip
_TOGETHER = 10
"""Mentions of a document."""
_LABELS = ("PER", "LOC", "ORG")
_LANGUAGES = ("en", "de", "ru", "zh", "ar")
_STRIDE = 6_700_417
"""A prime: multiples of it reach every entity once before the first comes again."""


@dataclass(frozen=True, slots=True)
class SyntheticSource:
    """A `Source` for `luke_batch.index`."""

    entities: int
    mentions: int
    """Of each entity."""
    dimension: int
    centres: int
    fragments_count: int
    noise: float = 1.0
    """Standard deviation of a mention around its centre; that of a centre is 1."""
    changed: frozenset[int] = frozenset()
    """Fragments with other mentions than on the first night."""

    @property
    def name(self) -> str:
        """See `Source`."""
        return "synthetic"

    def fragments(self, known: dict[tuple[str, str], AnnotatedFragment], policy: Policy) -> Iterable[AnnotatedFragment]:
        """See `Source`."""
        del known, policy
        size = self.dimension * 4 * self.entities * self.mentions // self.fragments_count
        for number in range(self.fragments_count):
            version = str(int(number in self.changed))
            key = f"{number:06d}/{version}"
            yield AnnotatedFragment(key, self.name, f"{number:06d}", size, version, self.dimension, "synthetic")

    def model(self, identity: str) -> Model | None:
        """See `Source`."""
        del identity
        return None

    def read(self, fragment: AnnotatedFragment, policy: Policy) -> pa.Table:
        """See `Source`."""
        del policy
        return self.table(int(fragment.path))

    def table(self, number: int) -> pa.Table:
        """The documents of a fragment."""
        total = self.entities * self.mentions
        places = np.arange(total * number // self.fragments_count, total * (number + 1) // self.fragments_count)
        shift = 7919 if number in self.changed else 0
        found = (places * _STRIDE + (places // self.entities + shift) * 104_729) % self.entities
        return self._documents(number, found, self._vectors(number, found))

    def _vectors(self, number: int, entities: np.ndarray[tuple[int], np.dtype[np.int64]]) -> FloatArray:
        rng = np.random.Generator(np.random.SFC64([number, int(number in self.changed)]))
        vectors = rng.standard_normal((len(entities), self.dimension), np.float32)
        vectors *= np.float32(self.noise)
        vectors += _centres(self.centres, self.dimension)[entities % self.centres]
        return vectors

    def _documents(
        self, number: int, entities: np.ndarray[tuple[int], np.dtype[np.int64]], vectors: FloatArray
    ) -> pa.Table:
        names = [f"Entity {entity}" for entity in entities.tolist()]
        starts: list[int] = []
        texts: list[str] = []
        for first in range(0, len(names), _TOGETHER):
            some = names[first : first + _TOGETHER]
            place = 0
            for name in some:
                starts.append(place)
                place += len(name) + 1
            texts.append(" ".join(some))
        ends = np.array(starts) + np.array([len(name) for name in names])
        columns = [
            pa.array(starts, pa.int32()),
            pa.array(ends, pa.int32()),
            pa.array(names),
            pa.array([_LABELS[entity % 3] for entity in entities.tolist()]),
            pa.nulls(len(names), pa.string()),
            pa.array([f"Q{entity}" for entity in entities.tolist()]),
        ]
        mentions = pa.StructArray.from_arrays(columns, fields=list(MENTION))
        embedded = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.dimension)
        offsets = pa.array(np.append(np.arange(0, len(names), _TOGETHER), len(names)), pa.int32())
        numbers = range(len(texts))
        return pa.table(
            {
                "id": [f"{number}-{row}" for row in numbers],
                "lang": [_LANGUAGES[(number + row) % len(_LANGUAGES)] for row in numbers],
                "text": texts,
                "mentions": pa.ListArray.from_arrays(offsets, mentions),
                "mention_embeddings": pa.ListArray.from_arrays(offsets, embedded),
            }
        )


_CENTRES: dict[tuple[int, int], FloatArray] = {}


def _centres(count: int, dimension: int) -> FloatArray:
    if (count, dimension) not in _CENTRES:
        rng = np.random.Generator(np.random.SFC64(1))
        _CENTRES[count, dimension] = rng.standard_normal((count, dimension), np.float32)
    return _CENTRES[count, dimension]
