"""Titles: how they are written, what name they give, and where redirects lead."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_LANGUAGE = r"^(?:[a-z]{2,3}(?:-[a-z]+)*|simple):(\S)"
"""The prefix of multilingual titles; titles of articles begin with no small letter."""

_DISAMBIGUATION = r"^(.*\S)\s*[(（][^()（）]*[)）]$"


def written(titles: pa.ChunkedArray) -> pa.ChunkedArray:
    """Titles with spaces for underscores, and none at the ends."""
    spaced = pc.call_function("replace_substring", [titles], pc.ReplaceSubstringOptions("_", " "))
    return pc.call_function("utf8_trim_whitespace", [spaced])


def own_names(titles: pa.ChunkedArray) -> pa.ChunkedArray:
    """The name that each title gives: without "en:" before and without "(film)" behind."""
    for pattern in (_LANGUAGE, _DISAMBIGUATION):
        options = pc.ReplaceSubstringOptions(pattern, r"\1")
        titles = pc.call_function("replace_substring_regex", [titles], options)
    return titles


@dataclass(frozen=True, slots=True)
class Redirects:
    """Redirects whose chains are followed to their ends."""

    sources: pa.Array
    targets: pa.Array
    """The end of each chain: no redirect itself."""
    circular: int
    """Redirects that lead nowhere but round in a circle; they are not among the others."""
    ambiguous: int
    """Redirects that were left out because their source has another one, to a title that sorts before."""

    @classmethod
    def of(cls, table: pa.Table) -> "Redirects":
        """From source and target, as `written`. Each step doubles the part of a chain that is followed."""
        pairs = table.group_by(["source"]).aggregate([("target", "min"), ("target", "count_distinct")])
        sources, targets = pairs["source"].combine_chunks(), pairs["target_min"].combine_chunks()
        ambiguous = int(pairs["target_count_distinct"].to_numpy().sum()) - len(sources)
        titles = pa.concat_arrays([sources, targets]).unique()
        source, target = (_places(values, titles) for values in (sources, targets))
        follows = np.arange(len(titles))
        follows[source] = target
        for _ in range(len(titles).bit_length()):
            follows = follows[follows]
        is_end = np.ones(len(titles), np.bool_)
        is_end[source] = False
        ends = is_end[follows[source]]
        return cls(
            sources.filter(pa.array(ends)),
            titles.take(pa.array(follows[source][ends])),
            circular=int((~ends).sum()),
            ambiguous=ambiguous,
        )

    def resolved(self, titles: pa.ChunkedArray) -> pa.ChunkedArray:
        """Each title, or where it redirects to."""
        places = pc.call_function("index_in", [titles], pc.SetLookupOptions(self.sources))
        return pc.call_function("coalesce", [self.targets.take(places.combine_chunks()), titles])


def _places(values: pa.Array, among: pa.Array) -> NDArray[np.int32]:
    return pc.call_function("index_in", [values], pc.SetLookupOptions(among)).to_numpy()
