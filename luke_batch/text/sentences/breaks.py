"""ICU's text boundaries (graphemes, words, lines, sentences) as code-point offsets.

icu4py counts UTF-16 units, so offsets behind an emoji are shifted; here they are mapped back. Linear in the
text.
"""

import re
import unicodedata
from importlib.metadata import version
from itertools import chain
from typing import Literal

import icu4py
import numpy as np
from icu4py.breakers import CharacterBreaker, SentenceBreaker, WordBreaker
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray

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
