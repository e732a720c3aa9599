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
from typing import Any, cast

import numpy as np
import sentencex

from luke_batch.base.arrays import IntArray
from luke_batch.text import words
from luke_batch.text.languages import language_code, main_language

_BLOCK = 1_000
"""Characters in one call of sentencex: bounds its quadratic worst case, yet longer than most sentences."""

_LOOKAHEAD = 64
"""A boundary this close to the end of a block may look different with the rest of the text behind it."""

_LONG = 250
"""sentencex never ends a sentence inside quotation marks, so that one mark too many joins a paragraph:
sentences this long are looked into with the marks hidden."""

# A blank line, a form feed or a paragraph separator. `\r` counts as white space in the first branch.
_PARAGRAPH = re.compile(r"(?:\r?\n[^\S\n]*\n|\r[^\S\r\n]*\r|[\f\u2029])\s*")

# Sentence ends that sentencex overlooks: Ethiopic (also as two word spaces), Tibetan, Khmer. Closing
# marks go along.
_MORE_ENDS = re.compile(r"(?:፡፡|[።፨]|[།༎]+|[។៕៚])[»”’\"')\]]*")

_REACH = 32
"""Characters before a boundary that can matter: longer than any abbreviation."""

# Abbreviations that precede a name and that sentencex does not know for the language, as they are written.
_TITLES = frozenset(
    {
        *("Ms", "Dr", "St", "Sta", "Sto", "Ste", "Pr", "Vol"),
        *("Mme", "Mlle", "Hrn", "Frl", "Dipl", "Mevr", "Cia", "Cía", "Av", "av"),
        *("Chr", "Kgs", "Kungl", "S:t", "sv", "św", "inż", "doc", "gđa", "gđica", "Sn"),
        *("св", "ул", "им", "г-н", "г-жа", "д-р", "проф"),
    }
)

_OPENING = "([{<\"'“‘„«‹「『《（【"
_QUOTE = re.compile(r"[\"“”„«»‹›「」『』]|(?<!\w)['‘’]|['‘’](?!\w)")
_OPENING_QUOTE = re.compile(r"[“„«‹「『]")
_CLOSING = re.compile(r"[\"'”’»)\]]+(?=\s)")
_SPACE = re.compile(r"\s+")

# The letters at the end, without the Han and kana that they may stand next to.
_LAST_LETTERS = re.compile(r"[^\W\u3000-\u9fff]*$")


def paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """The stretches between blank lines, [start, end), some of them empty or white."""
    start = 0
    for gap in _PARAGRAPH.finditer(text):
        yield start, gap.start()
        start = gap.end()
    yield start, len(text)


def sentence_starts(text: str, start: int, end: int, language: str) -> Iterator[int]:
    """Where the sentences of text[start:end] start, `start` first.

    Each block begins where the last sentence of the one before began: no block's end cuts a sentence.
    """
    yield start
    at = start
    while end - at > _BLOCK:
        block = text[at : at + _BLOCK]
        cuts = _cuts(block, language)
        trusted = [cut for cut in cuts if cut <= _BLOCK - _LOOKAHEAD] or cuts
        yield from (at + cut for cut in trusted)
        # one sentence all over: go on inside it, at a space, so that a mark and what follows it stay together
        at += trusted[-1] if trusted else _last_space(block)
    yield from (at + cut for cut in _cuts(text[at:end], language))


def _last_space(block: str) -> int:
    """Where the second half of `block` can best be left: at its last space, else at its end."""
    space = block.rfind(" ", len(block) // 2)
    return space if space > 0 else len(block)


def _cuts(block: str, language: str) -> list[int]:
    """The inner sentence boundaries of `block`, ascending, none inside a grapheme or a name."""
    cuts = _library_cuts(block, language)
    if not block.isascii():
        cuts.update(match.end() for match in _MORE_ENDS.finditer(block))
    edges = [0, *sorted(cuts), len(block)]
    for first, last in pairwise(edges):
        if last - first > _LONG:
            piece = block[first:last]
            inner = _library_cuts(_without_quotes(piece), language)
            cuts.update(first + _before_opening(piece, cut) for cut in inner)
    ends = {_behind_closing(block, cut) for cut in cuts if not _cuts_a_name(block, cut, language)}
    return sorted(cut for cut in ends if 0 < cut < len(block) and words.between_graphemes(block, cut))


def _library_cuts(block: str, language: str) -> set[int]:
    """The inner sentence boundaries of `block` by sentencex, or by ICU where sentencex panics."""
    try:
        found = cast(Any, sentencex).get_sentence_boundaries(language, block)
        cuts = {sentence["start_index"] for sentence in found}
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException:  # a panic of the Rust library is no Exception
        cuts = {int(cut) for cut in words.boundaries(block, "sentence", language)}
    return {cut for cut in cuts if 0 < cut < len(block)}


def _cuts_a_name(text: str, cut: int, language: str) -> bool:
    """Whether the boundary at `cut` follows a full stop inside a name: of an initial, a title, ".NET"."""
    before = text[max(0, cut - _REACH) : cut]
    stopped = before.rstrip()
    if not stopped.endswith("."):
        return False
    tokens = stopped[:-1].rsplit(maxsplit=1)
    token = tokens[-1].lstrip(_OPENING) if tokens and not stopped[-2:-1].isspace() else ""
    if stopped == before and not text[cut].isspace():
        letters = _LAST_LETTERS.search(stopped, 0, len(stopped) - 1)
        return text[cut].isalnum() and letters is not None and len(letters.group()) <= 2
    # English sentences do end in one letter ("vitamin C."), and sentencex knows its initials
    return token in _TITLES or (language != "en" and len(token) == 1 and token.isupper())


def _behind_closing(text: str, cut: int) -> int:
    """`cut`, moved behind closing marks that it left to the next sentence: `so. |" He` -> `so. "| He`."""
    mark = _CLOSING.match(text, cut)
    return mark.end() if mark else cut


def _without_quotes(text: str) -> str:
    """`text` with a space for each quotation mark, so that a segmenter looks inside: of the same length."""
    return _QUOTE.sub(" ", text)


def _before_opening(text: str, cut: int) -> int:
    """`cut`, found in `_without_quotes(text)`, moved before the marks that open the sentence behind it.

    Between two sentences lie closing marks, white space, opening marks: the boundary is behind the white
    space, or before the first mark that can only open where there is none.
    """
    start = cut
    while start > 0 and (text[start - 1].isspace() or _QUOTE.match(text, start - 1)):
        start -= 1
    gap = _SPACE.search(text, start, cut)
    if gap:
        return gap.end()
    opening = _OPENING_QUOTE.search(text, start, cut)
    return opening.start() if opening else cut


VERSION = 1
"""Raised by hand whenever the same text would give other sentences; part of the fingerprint."""

_WIDE_SPACE = re.compile(r"[^\S\x00-\x7f]")
# Marks that end a clause; those of Latin script only with white space behind, as 1,000 and 12:30 have none.
_CLAUSE = re.compile(r"[,;:!?.)\]»”…–—،؛؟।](?=\s)|[、，；：）」』】。！？፣፤།]")
_LINE = re.compile(r"[\r\n\v\x1c-\x1e\x85\u2028]+")


def sentences(text: str, language: str | None, max_characters: int = 1_000) -> IntArray:
    """The sentences of `text`: (n, 2) int32 of [start, end) code points.

    Sorted, not overlapping, without white space at either end, none empty, none above `max_characters` (1 or more),
    and every character that is not white space lies in one. `language` is a code of any standard; where it is None or
    unknown, the script decides. Raises nothing.
    """
    code = language_code(language) or main_language(text)
    # same length, so offsets hold; it is wide white space that sentencex panics on
    flat = _WIDE_SPACE.sub(" ", words.without_surrogates(text))
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
    cuts.update(int(cut) for cut in words.boundaries(piece, "sentence", language))
    return sorted(start + cut for cut in cuts if 0 < cut < len(piece) and words.between_graphemes(piece, cut))


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
            if words.between_graphemes(window, cut):
                return start + cut
    kinds: tuple[words.Kind, ...] = ("word", "grapheme")
    for kind in kinds:
        cuts = words.boundaries(window, kind, language)
        cuts = cuts[(cuts >= low) & (cuts <= max_characters)]
        if cuts.size:
            return start + int(cuts[-1])
    return start + max_characters
