"""The form in which names are compared: Unicode NFKC, white space as single spaces, none at the ends.

A text is brought into the same form together with the way back to its code points. NFKC changes a character
on its own or with the marks behind it, so only these segments are normalised and all else keeps its place;
the result equals NFKC of the whole text (Unicode Standard Annex 15, "Stable Code Points").
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.text.words import code_points, without_surrogates

_ODD_SPACE = re.compile(r"[^\S ]|  ")
_SPACE = ord(" ")

_NO_FORMS = 0x30000
"""From here on no character has a decomposition or joins another one (Unicode 17)."""


def normalise(name: str) -> str:
    """`name` as names are compared; empty for a name of white space alone."""
    return " ".join(unicodedata.normalize("NFKC", _storable(name)).split())


def fold(name: str) -> str:
    """`name` as names are compared without regard to case."""
    return normalise(normalise(name).casefold())


@dataclass(frozen=True, slots=True)
class NormalisedText:
    """A text in the form of names (white space at its ends is kept, as one space)."""

    text: str
    starts: IntArray
    """(len(text),) where, in the original, the segment begins that each character comes from."""
    ends: IntArray
    """(len(text),) where that segment ends."""

    @classmethod
    def of(cls, original: str) -> "NormalisedText":
        """`original` normalised. Linear in the text."""
        original = _storable(original)
        places = np.arange(len(original) + 1, dtype=np.int32)
        if unicodedata.is_normalized("NFKC", original) and not _ODD_SPACE.search(original):
            return cls(original, places[:-1], places[1:])
        pieces: list[str] = []
        lengths, segment_ends, done = np.ones(len(original), np.int32), places[1:].copy(), 0
        for match in _segments().finditer(original):
            start, end = match.span()
            segment = match[0]
            normal = " " if segment.isspace() else unicodedata.normalize("NFKC", segment)
            if normal == segment:
                continue
            pieces += (original[done:start], normal)
            lengths[start], lengths[start + 1 : end], segment_ends[start] = len(normal), 0, end
            done = end
        text = "".join([*pieces, original[done:]])
        starts = np.repeat(places[:-1], lengths)
        spaces = code_points(text) == _SPACE
        kept = ~(spaces & np.concatenate([[False], spaces[:-1]]))
        if not kept.all():
            text, starts = re.sub(" +", " ", text), starts[kept]
        return cls(text, starts, segment_ends[starts])

    def first(self, starts: IntArray) -> IntArray:
        """For each of `starts` in the original the place of the character that a name beginning there begins
        with; -1 where none can. (n,) and (n,).
        """
        if not self.text:
            return np.full(len(starts), -1, np.int32)
        last = len(self.text) - 1
        places = np.minimum(np.searchsorted(self.starts, starts), last)
        places = np.minimum(places + self._spaces()[places], last)  # "´" is a space with a mark
        return np.where(self.starts[places] == starts, places, -1).astype(np.int32)

    def last(self, ends: IntArray) -> IntArray:
        """For each of `ends` in the original the place of the character that a name ending there ends with;
        -1 where none can. (n,) and (n,).
        """
        if not self.text:
            return np.full(len(ends), -1, np.int32)
        places = np.maximum(np.searchsorted(self.ends, ends, side="right") - 1, 0)
        places = np.maximum(places - self._spaces()[places], 0)
        return np.where(self.ends[places] == ends, places, -1).astype(np.int32)

    def _spaces(self) -> NDArray[np.bool_]:
        return code_points(self.text) == _SPACE


def _storable(text: str) -> str:
    """`text` with U+FFFD for what the trie cannot hold, lone surrogates and NUL: of the same length."""
    return without_surrogates(text).replace("\0", "\ufffd")


@cache
def _segments() -> re.Pattern[str]:
    """Whatever NFKC may change: a character with all that may join it, or one that changes alone.

    Built once in a process, in a fifth of a second, and only where a text needs it.
    """
    seconds = set("\u1161\u11a8")
    changing, joining = np.zeros((2, _NO_FORMS), np.bool_)
    for point in range(_NO_FORMS):
        character = chr(point)
        decomposed = unicodedata.decomposition(character)
        if decomposed and decomposed[0] != "<" and " " in decomposed:
            seconds.add(chr(int(decomposed.split()[1], 16)))
        changing[point] = character.isspace() and character != " "
        changing[point] |= bool(decomposed) and unicodedata.normalize("NFKC", character) != character
        joining[point] = unicodedata.combining(character) != 0
    joining[0x1161:0x1176] = joining[0x11A8:0x11C3] = True  # Hangul vowels and finals
    joining[[ord(second) for second in seconds]] = True
    for point in np.flatnonzero(changing):
        joining[point] |= joining[ord(unicodedata.normalize("NFKD", chr(point))[0])]
    return re.compile(rf"\S?{_class(joining)}+|{_class(changing)}")


def _class(members: NDArray[np.bool_]) -> str:
    """A regular expression's character class of the code points that are `members`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], members, [False]]).astype(np.int8)))
    ranges = (f"\\U{first:08x}-\\U{end - 1:08x}" for first, end in edges.reshape(-1, 2).tolist())
    return f"[{''.join(ranges)}]"
