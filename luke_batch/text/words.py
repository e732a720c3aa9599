"""Words by the rules of Unicode, as the units that candidate mentions are made of.

ICU cuts the text (with dictionaries for Chinese, Japanese, Thai, Lao, Khmer and Burmese). On the development
data 1 to 3 names in 100 began or ended inside one of its words, nearly all of them before a possessive
("Obama|'s"); so apostrophes are cut as well, with care for contractions. Han characters as words of their own
were tried: spans of up to 8 words then find fewer Japanese names (94% against 98%) among a third more spans.
Linear in the text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.text.sentences import breaks
from luke_batch.text.sentences.languages import language_code

VERSION = 1
"""Raised by hand whenever the same text would give other words; part of the fingerprint, as ICU's version is.
"""

_APOSTROPHE = re.compile(r"(?<=\S)['’](?=\w)")
_POSSESSIVE = re.compile(r"['’]s(?!\w)", re.IGNORECASE)
_CONTRACTION = re.compile(r"['’](?:t|m|d|re|ve|ll)(?!\w)", re.IGNORECASE)

# They set an ending off from a name by an apostrophe (Ankara'da), where others contract the article
# (l'Aquila).
_SUFFIXING = frozenset({"tr", "az", "tk", "crh"})

# Names take endings behind a colon there (EU:n, Maj:ts).
_COLON_ENDING = re.compile(r"(?<=[^\W\d_]):(?=[^\W\d_])")
_COLON_LANGUAGES = frozenset({"fi", "sv"})

# Controls and white space; soft hyphen, marks of direction, byte order mark and the like.
_INVISIBLE = np.array(
    [
        *range(0x21), *range(0x7F, 0xA1), 0xAD, 0x61C, 0x1680, 0x180E, *range(0x2000, 0x200C), 0x200E,
        0x200F, *range(0x2028, 0x2030), *range(0x205F, 0x2070), 0x3000, 0xFEFF,
    ],
    np.uint32,
)  # fmt: skip


def words(text: str, language: str | None) -> IntArray:
    """The words of `text`: (n, 2) int32 of [start, end) code points, ascending, not overlapping, not empty.

    Each punctuation mark is a word of its own. White space and invisible characters (controls, marks of
    direction) lie between words, all else in one. No word cuts a grapheme, save at white space. `language` is
    a code of any standard, or None. Raises nothing.
    """
    cuts = breaks.boundaries(text, "word")
    extra = np.fromiter(_apostrophe_cuts(text, language_code(language)), np.int32)
    if extra.size:
        cuts = np.union1d(cuts, extra)
    if max(text, default="") >= breaks.FIRST_MARK:
        # ICU's dictionaries overlook some signs that join their neighbour
        cuts = np.intersect1d(cuts, breaks.boundaries(text, "grapheme"), assume_unique=True)
    return _visible(text, cuts)


def _apostrophe_cuts(text: str, language: str | None) -> Iterator[int]:
    """Where a name may begin or end inside a word of ICU's."""
    for match in _APOSTROPHE.finditer(text):
        at = match.start()
        if _POSSESSIVE.match(text, at) or language in _SUFFIXING:
            yield at
        elif not _CONTRACTION.match(text, at):
            yield at + 1
    if language in _COLON_LANGUAGES:
        yield from (match.start() for match in _COLON_ENDING.finditer(text))


def _visible(text: str, cuts: IntArray) -> IntArray:
    """The pieces between `cuts` without the invisible characters at their ends, empty ones left out."""
    if not text:
        return np.zeros((0, 2), np.int32)
    pieces = Visible.of(text).trim(np.stack([cuts[:-1], cuts[1:]], axis=1))
    return pieces[pieces[:, 0] < pieces[:, 1]]


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
