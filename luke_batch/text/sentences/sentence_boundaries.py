"""Where sentences begin, before they are trimmed and split.

    paragraphs (blank lines) -> bounded blocks -> sentencex, or ICU where it panics -> mended boundaries

sentencex is quadratic in the quotation marks of one call (200,000 characters of Japanese dialogue take 30
seconds), so it only sees blocks of bounded size. It panics on some wide white space: callers hand over plain
spaces.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol, cast

import sentencex

from luke_batch.text.sentences import breaks
from luke_batch.text.sentences.sentence_ends import (
    before_opening,
    behind_closing,
    cuts_a_name,
    without_quotes,
)

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


class _Boundaries(Protocol):
    """What we use of sentencex, which ships no types."""

    def get_sentence_boundaries(self, language: str, text: str) -> list[dict[str, int]]: ...


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
            inner = _library_cuts(without_quotes(piece), language)
            cuts.update(first + before_opening(piece, cut) for cut in inner)
    ends = {behind_closing(block, cut) for cut in cuts if not cuts_a_name(block, cut, language)}
    return sorted(cut for cut in ends if 0 < cut < len(block) and breaks.between_graphemes(block, cut))


def _library_cuts(block: str, language: str) -> set[int]:
    """The inner sentence boundaries of `block` by sentencex, or by ICU where sentencex panics."""
    try:
        found = cast(_Boundaries, sentencex).get_sentence_boundaries(language, block)
        cuts = {sentence["start_index"] for sentence in found}
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException:  # a panic of the Rust library is no Exception
        cuts = {int(cut) for cut in breaks.boundaries(block, "sentence", language)}
    return {cut for cut in cuts if 0 < cut < len(block)}
