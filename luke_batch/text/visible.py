"""Which characters of a text show: neither words nor answers begin or end with another one."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.text.sentences import breaks

# Controls and white space; soft hyphen, marks of direction, byte order mark and the like.
_INVISIBLE = np.array(
    [
        *range(0x21), *range(0x7F, 0xA1), 0xAD, 0x61C, 0x1680, 0x180E, *range(0x2000, 0x200C), 0x200E,
        0x200F, *range(0x2028, 0x2030), *range(0x205F, 0x2070), 0x3000, 0xFEFF,
    ],
    np.uint32,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Visible:
    """Where the nearest visible characters of a text are."""

    following: IntArray
    """(n + 1,) the first visible character at or after each place; n where there is none."""
    preceding: IntArray
    """(n + 1,) the place after the last visible character before each place; 0 where there is none."""

    @classmethod
    def of(cls, text: str) -> Self:
        """Look at a text of n characters."""
        count = np.int32(len(text))
        visible = ~np.isin(breaks.code_points(text), _INVISIBLE)
        places = np.arange(count, dtype=np.int32)
        following = np.append(np.where(visible, places, count), count)
        preceding = np.insert(np.where(visible, places + np.int32(1), np.int32(0)), 0, 0)
        return cls(
            np.minimum.accumulate(following[::-1])[::-1].astype(np.int32),
            np.maximum.accumulate(preceding).astype(np.int32),
        )

    def trim(self, spans: IntArray) -> IntArray:
        """(n, 2) ranges without the invisible characters at their ends; start >= end where none shows."""
        return np.stack([self.following[spans[:, 0]], self.preceding[spans[:, 1]]], axis=1)
