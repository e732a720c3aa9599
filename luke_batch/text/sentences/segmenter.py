"""Sentences with exact character offsets.

    text -> sentence boundaries -> trim -> split what is over long

A sentence too long is split first everywhere a line or a sentence ends (quotations and lists hide such ends from a
segmenter); then, piece by piece from the left, behind a clause mark, at white space, between words, between graphemes.
Each step looks at one window of the permitted length. Linear in the text. A sentence depends on the language and its
own paragraph alone.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.text.sentences import breaks
from luke_batch.text.sentences.boundaries import paragraphs, sentence_starts
from luke_batch.text.sentences.languages import language_code, main_language

VERSION = 1
"""Raised by hand whenever the same text would give other sentences; part of the fingerprint."""

_WIDE_SPACE = re.compile(r"[^\S\x00-\x7f]")
# Marks that end a clause; those of Latin script only with white space behind, as 1,000 and 12:30 have none.
_CLAUSE = re.compile(r"[,;:!?.)\]»”…–—،؛؟।](?=\s)|[、，；：）」』】。！？፣፤།]")
_LINE = re.compile(r"[\r\n\v\x1c-\x1e\x85\u2028]+")
_SPACE = re.compile(r"\s+")


def sentences(text: str, language: str | None, max_characters: int = 1_000) -> IntArray:
    """The sentences of `text`: (n, 2) int32 of [start, end) code points.

    Sorted, not overlapping, without white space at either end, none empty, none above `max_characters` (1 or more),
    and every character that is not white space lies in one. `language` is a code of any standard; where it is None or
    unknown, the script decides. Raises nothing.
    """
    code = language_code(language) or main_language(text)
    # same length, so offsets hold; it is wide white space that sentencex panics on
    flat = _WIDE_SPACE.sub(" ", breaks.without_surrogates(text))
    found: list[tuple[int, int]] = []
    for start, end in paragraphs(text):
        cuts = [*sentence_starts(flat, start, end, code), end]
        for first, last in pairwise(cuts):
            found.extend(_split_long(text, first, last, max_characters, code))
    return np.array(found, np.int32).reshape(-1, 2)


def _split_long(text: str, start: int, end: int, max_characters: int, language: str) -> Iterator[tuple[int, int]]:
    """text[start:end] without its outer white space, as [start, end) pieces of at most `max_characters`
    characters.

    Pieces are in order, trimmed and not empty. A grapheme is cut only where it alone is longer than that.
    """
    start, end = _trimmed(text, start, end)
    if start == end:
        return
    if end - start <= max_characters:
        yield start, end
        return
    cuts = [start, *_strong_cuts(text, start, end, language), end]
    for first, last in pairwise(cuts):
        at, stop = _trimmed(text, first, last)
        while at < stop:
            cut = _best_cut(text, at, stop, max_characters, language)
            yield _trimmed(text, at, cut)
            space = _SPACE.match(text, cut, stop)
            at = space.end() if space else cut


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """[start, end) without the white space at its ends; both are `start` where there is nothing else."""
    piece = text[start:end]
    inner = piece.strip()
    if not inner:
        return start, start
    start += len(piece) - len(piece.lstrip())
    return start, start + len(inner)


def _strong_cuts(text: str, start: int, end: int, language: str) -> list[int]:
    """Where a line or, for ICU, a sentence ends inside text[start:end], ascending."""
    piece = text[start:end]
    cuts = {match.end() for match in _LINE.finditer(piece)}
    cuts.update(int(cut) for cut in breaks.boundaries(piece, "sentence", language))
    return sorted(start + cut for cut in cuts if 0 < cut < len(piece) and breaks.between_graphemes(piece, cut))


def _best_cut(text: str, start: int, end: int, max_characters: int, language: str) -> int:
    """Where the first piece of text[start:end] ends: at `end` if that is in reach, else at the best place."""
    length = end - start
    if length <= max_characters:
        return end
    # two pieces of alike length rather than a full one and a crumb
    low = max(1, min(max_characters, length) // 4, length - max_characters if length <= 2 * max_characters else 0)
    window = text[start : start + max_characters + 1]
    for pattern in (_CLAUSE, _SPACE):
        ends = [match.end() for match in pattern.finditer(window) if low <= match.end() <= max_characters]
        for cut in reversed(ends):
            if breaks.between_graphemes(window, cut):
                return start + cut
    kinds: tuple[breaks.Kind, ...] = ("word", "grapheme")
    for kind in kinds:
        cuts = breaks.boundaries(window, kind, language)
        cuts = cuts[(cuts >= low) & (cuts <= max_characters)]
        if cuts.size:
            return start + int(cuts[-1])
    return start + max_characters
