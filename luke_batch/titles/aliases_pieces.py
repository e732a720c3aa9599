"""Pieces of many texts at once: code-point offsets into UTF-8 buffers, without a Python string."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pieces:
    """n pieces of texts."""

    inside: NDArray[np.bool_]
    """(n,) whether a piece lies in its text and is not empty."""
    _bytes: NDArray[np.uint8]
    _places: Longs
    """(n, 2) [start, end) in the bytes; the empty piece where not inside."""

    @classmethod
    def of(cls, texts: pa.LargeStringArray, parents: Longs, spans: Longs) -> "Pieces":
        """`spans` (n, 2), [start, end) in code points, of the texts number `parents` (n,); of a null text
        none is inside. `texts` must be valid UTF-8.
        """
        _, offset_buffer, data = texts.buffers()
        offsets = np.frombuffer(offset_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        content = np.frombuffer(data or b"", np.uint8)
        # every character has one byte that continues none
        characters = np.append(np.flatnonzero(content & 0xC0 != 0x80), len(content))
        firsts = np.searchsorted(characters, offsets)
        known = texts.is_valid().to_numpy(zero_copy_only=False)
        lengths = np.where(known, np.diff(firsts), 0)
        start, end = spans.T
        inside = (start >= 0) & (start < end) & (end <= lengths[parents])
        places = np.where(inside[:, None], firsts[parents][:, None] + spans, 0)
        return cls(inside, content, characters[places])

    def strings(self) -> pa.LargeStringArray:
        """The pieces; empty where not inside."""
        starts, ends = self._places.T
        offsets = np.concatenate([[0], np.cumsum(ends - starts)])
        taken = np.repeat(starts - offsets[:-1], ends - starts) + np.arange(offsets[-1])
        buffers = [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(self._bytes[taken])]
        return pa.LargeStringArray.from_buffers(len(starts), buffers[1], buffers[2])
