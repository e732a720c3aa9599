"""Words by the rules of Unicode, and runs of them inside one sentence: the units of candidate mentions, and all that
may be one.

ICU cuts the text (with dictionaries for Chinese, Japanese, Thai, Lao, Khmer and Burmese). On the development
data 1 to 3 names in 100 began or ended inside one of its words, nearly all of them before a possessive
("Obama|'s"); so apostrophes are cut as well, with care for contractions. Han characters as words of their own
were tried: spans of up to 8 words then find fewer Japanese names (94% against 98%) among a third more spans.
Linear in the text.

`all_spans` is every run; `auto_spans` leaves out what cannot be a name: runs without a letter or digit, with
a mark at an edge that never bounds a name, with half a pair of brackets, with a quotation mark at one edge
alone. Measured on the development data that spares a fifth of the spans and loses under 1 name in 1,000, most
of those annotated by mistake ("(NY)" without its first bracket). Linear in the number of spans, without a Python loop.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import chain
from typing import Literal, Self

import icu4py
import numpy as np
from icu4py.breakers import CharacterBreaker, SentenceBreaker, WordBreaker
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.text.languages import language_code

Kind = Literal["grapheme", "word", "sentence"]

FIRST_MARK = "\u0300"
"""The first character that joins the one before it (but for the line feed of a `\\r\\n`)."""

_GRAPHEME_REACH = 32
"""How far back the start of a grapheme is looked for."""

# Thai and Lao AM, conjoining jamo, half-width voicing marks, and all letters beyond the BMP (Brahmic prefixes
# among them)
_JOINING_LETTER = re.compile(
    r"[\u0d4e\u0e33\u0eb3\u1100-\u11ff\ua960-\ua97c\ud7b0-\ud7fb\uff9e\uff9f\U00010000-\U0010ffff]"
)

LIBRARY_VERSION = f"icu4py-{version('icu4py')}/icu-{icu4py.icu_version}"
"""Of ICU, whose Unicode data may change with it; part of the fingerprint."""


_BREAKERS: dict[Kind, type[CharacterBreaker | WordBreaker | SentenceBreaker]] = {
    "grapheme": CharacterBreaker,
    "word": WordBreaker,
    "sentence": SentenceBreaker,
}


def code_points(text: str) -> NDArray[np.uint32]:
    """The characters of `text` as numbers: (len(text),) uint32. Lone surrogates pass through."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def without_surrogates(text: str) -> str:
    """`text` with each lone surrogate, which no library takes, replaced by U+FFFD: of the same length."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


def boundaries(text: str, kind: Kind, language: str | None = None) -> IntArray:
    """Where ICU lets `text` be cut: (n,) int32, strictly increasing, from 0 to len(text); empty for an empty
    text.

    `language` is a two- or three-letter code and matters little: word dictionaries are chosen by script.
    """
    if not text:
        return np.zeros(0, np.int32)
    # "root" rather than the process's locale: the result must not depend on the machine
    segments = _BREAKERS[kind](without_surrogates(text), language or "root").segments()
    units = np.fromiter(chain.from_iterable(segments), np.int32)[1::2]
    ends = units if text.isascii() else _characters_of_units(text)[units]
    return np.concatenate([np.zeros(1, np.int32), ends])


def between_graphemes(text: str, cut: int) -> bool:
    """Whether `text` can be cut at 0 < `cut` < len(text) without tearing a grapheme (true at white space)."""
    before, behind = text[cut - 1], text[cut]
    if before.isspace() or behind.isspace() or (_stands_alone(before) and _stands_alone(behind)):
        return True
    start = max(0, cut - _GRAPHEME_REACH)
    return cut - start in boundaries(text[start : cut + 1], "grapheme")


def _stands_alone(character: str) -> bool:
    """Whether `character` joins no neighbour of its kind: a short cut past ICU for nearly all characters."""
    if character < FIRST_MARK:
        return True
    # marks, jamo, flags and emoji join; so do the few letters named here
    return unicodedata.category(character)[0] in "LNP" and not _JOINING_LETTER.match(character)


def _characters_of_units(text: str) -> IntArray:
    """The code-point offset of every UTF-16 offset: (units + 1,) int32."""
    widths = 1 + (code_points(text) > 0xFFFF)
    characters = np.repeat(np.arange(len(text), dtype=np.int32), widths)
    return np.append(characters, np.int32(len(text)))


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
    cuts = boundaries(text, "word")
    extra = np.fromiter(_apostrophe_cuts(text, language_code(language)), np.int32)
    if extra.size:
        cuts = np.union1d(cuts, extra)
    if max(text, default="") >= FIRST_MARK:
        # ICU's dictionaries overlook some signs that join their neighbour
        cuts = np.intersect1d(cuts, boundaries(text, "grapheme"), assume_unique=True)
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
        visible = ~np.isin(code_points(text), _INVISIBLE)
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


SPANS_VERSION = 1
"""Raised by hand whenever the same words would give other spans; part of the fingerprint."""

_LETTER, _BAD_START, _BAD_END, _OPENS, _CLOSES, _QUOTES = (1 << bit for bit in range(6))

# A name may begin with . ' @ # & ( or a quotation mark (.NET, 's-Hertogenbosch) and end with . ! ? ' + * # ~
# or a closing one (Inc., Yahoo!, Disney+, C#): those are in neither list.
_MARKS = {
    _BAD_START: ",;:!?%*)]}>…–—-/\\|=^、。，．；：！？）」』】》〉］｝・।॥،؛؟۔",
    _BAD_END: ",;:([{<¿¡…–—-/\\|=^@&$、。，；：（「『【《〈［｛・।॥،؛",
    _OPENS: "([{（「『【《〈［｛",
    _CLOSES: ")]}）」』】》〉］｝",
    _QUOTES: '"“”„«»',
}


def all_spans(words: IntArray, sentences: IntArray, max_words: int) -> IntArray:
    """Every run of 1 to `max_words` consecutive words inside one sentence: (m, 2) int32, ascending by (start,
    end).

    `words` (n, 2) and `sentences` (k, 2) are ascending and do not overlap; a word across the border of two
    sentences is cut there, a word outside all sentences is left out. Offsets are code points.
    """
    pieces, sentence = _inside(words, sentences)
    places = np.arange(len(pieces))
    last = np.searchsorted(sentence, sentence, side="right")
    runs = np.clip(last - places, 0, max_words)
    first = np.repeat(places, runs)
    length = np.arange(len(first)) - np.repeat(np.cumsum(runs) - runs, runs)
    return np.stack([pieces[first, 0], pieces[first + length, 1]], axis=1)


def auto_spans(text: str, words: IntArray, sentences: IntArray, max_words: int) -> IntArray:
    """`all_spans` without the runs that cannot be names: (m, 2) int32, ascending by (start, end)."""
    spans = all_spans(words, sentences, max_words)
    if not len(spans):
        return spans
    points = code_points(text)
    classes = _classes()[points]
    start, end = spans[:, 0], spans[:, 1]
    kept = _count(classes & _LETTER != 0, spans) > 0
    kept &= classes[start] & _BAD_START == 0
    kept &= classes[end - 1] & _BAD_END == 0
    kept &= _count(classes & _OPENS != 0, spans) == _count(classes & _CLOSES != 0, spans)
    quoted = (classes[start] | classes[end - 1]) & _QUOTES != 0
    kept &= ~quoted | (_count(classes & _QUOTES != 0, spans) % 2 == 0)
    return spans[kept]


def _inside(words: IntArray, sentences: IntArray) -> tuple[IntArray, NDArray[np.intp]]:
    """The parts of `words` that lie in sentences, (n, 2), and the index of the sentence of each, (n,)."""
    first = np.searchsorted(sentences[:, 1], words[:, 0], side="right")
    counts = np.maximum(np.searchsorted(sentences[:, 0], words[:, 1], side="left") - first, 0)
    word = np.repeat(np.arange(len(words)), counts)
    sentence = first[word] + np.arange(len(word)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.maximum(words[word, 0], sentences[sentence, 0])
    ends = np.minimum(words[word, 1], sentences[sentence, 1])
    return np.stack([starts, ends], axis=1), sentence


def _count(marked: NDArray[np.bool_], spans: IntArray) -> NDArray[np.int32]:
    """How many characters of each span are `marked`: (m,) int32."""
    before = np.concatenate([np.zeros(1, np.int32), np.cumsum(marked, dtype=np.int32)])
    return before[spans[:, 1]] - before[spans[:, 0]]


@cache
def _classes() -> NDArray[np.uint8]:
    """The class bits of every code point: (0x110000,) uint8, built once in a process, in 0.1 s."""
    table = np.fromiter((unicodedata.category(chr(point))[0] in "LMN" for point in range(0x110000)), np.uint8)
    for bit, marks in _MARKS.items():
        table[code_points(marks)] |= bit
    return table
