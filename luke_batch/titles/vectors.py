"""The mean vector of each title's mentions, as the model reads them: z of `placement`."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.annotate.annotator import Annotator
from luke_batch.base.arrays import FloatArray
from luke_batch.config import JobConfig
from luke_batch.model.writing.added_entities import EntitySpace
from luke_batch.titles.mentions import TitleMentions

_DOCUMENTS = 128
"""Texts that are read at once: their vectors are held together."""

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class MeanVectors:
    """Of n titles."""

    vectors: FloatArray
    """(n, width); NaN where no mention could be read."""
    counts: Longs
    """(n,) mentions of each."""
    unread: int
    """Mentions without a vector: no token covers them, or their document failed."""


class MentionReader:
    """Reads mentions with the checkpoint `path`, which has this `space`; CheckpointError where it cannot be used."""

    def __init__(self, path: str, device: str, space: EntitySpace) -> None:
        models = {"main": {"path": path, "device": device}}
        head = {"head": "embeddings", "spans": "given", "of": "mentions"}
        job = {"input": {"mentions_column": "given"}, "models": models, "heads": [head]}
        self._annotator = Annotator.from_config(JobConfig.model_validate(job))
        self._space = space

    def means(self, tables: Iterable[TitleMentions], titles: pa.LargeStringArray) -> MeanVectors:
        """The mean vectors of (n,) distinct `titles`. Texts without a mention of any are not read; in others
        the model sees all their mentions together.
        """
        sums = np.zeros((len(titles), self._space.width), np.float64)
        counts = np.zeros(len(titles), np.int64)
        unread = 0
        for table in tables:
            numbers = pc.call_function("index_in", [table.titles], pc.SetLookupOptions(titles))
            wanted: Longs = numbers.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            documents = np.unique(table.parents[wanted >= 0])
            for first in range(0, len(documents), _DOCUMENTS):
                part = documents[first : first + _DOCUMENTS]
                chosen = np.isin(table.parents, part)
                states = self._states(table, part, chosen)[wanted[chosen] >= 0]
                entities = wanted[chosen & (wanted >= 0)]
                read = ~np.isnan(states[:, 0])
                np.add.at(sums, entities[read], self._space.transform(states[read]))
                np.add.at(counts, entities[read], 1)
                unread += int((~read).sum())
        sums[counts == 0] = np.nan
        return MeanVectors((sums / np.maximum(counts, 1)[:, None]).astype(np.float32), counts, unread)

    def _states(self, table: TitleMentions, documents: Longs, chosen: NDArray[np.bool_]) -> FloatArray:
        """(m, hidden) last states of [MASK] at the `chosen` mentions, which are those of `documents`; NaN
        where there is none.
        """
        rows = np.searchsorted(documents, table.parents[chosen])
        spans = table.spans[chosen]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(documents)))])
        members = [pa.array(column) for column in spans.T]
        given = pa.LargeListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(members, ["start", "end"]))
        annotated = self._annotator.annotate(pa.table({"text": table.texts.take(pa.array(documents)), "given": given}))
        found = annotated["mentions"].combine_chunks()
        sizes = found.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        places = found.flatten()
        keys = _keys(np.repeat(np.arange(len(documents)), sizes), places.field("start"), places.field("end"))
        at = pc.call_function("index_in", [_keys(rows, *members)], pc.SetLookupOptions(keys))
        taken = annotated["mention_embeddings"].combine_chunks().flatten().take(at)
        width = taken.type.list_size
        states = np.full((len(spans), width), np.nan, np.float32)
        valid = taken.is_valid().to_numpy(zero_copy_only=False)
        states[valid] = taken.drop_null().flatten().to_numpy().reshape(-1, width)
        return states


def _keys(rows: Longs, starts: pa.Array, ends: pa.Array) -> pa.Array:
    """One number for a span of one of `_DOCUMENTS` texts; texts are shorter than 2^28 characters."""
    low, high = (part.to_numpy().astype(np.int64) for part in (starts, ends))
    return pa.array((rows.astype(np.int64) << 56) | (low << 28) | high)
