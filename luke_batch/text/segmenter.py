"""Sentences with exact character offsets.

    text -> paragraphs (blank lines) -> blocks of bounded size -> sentencex -> trim -> split what is over long

sentencex is quadratic in the quotation marks of one call (200,000 characters of Japanese dialogue take 30 seconds)
and panics on some white space. So it only ever sees blocks of bounded size, with plain spaces, and where it still
panics ICU does that block. Linear in the text, and a sentence depends on its own paragraph alone.
"""

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Protocol, cast

import numpy as np
import sentencex

from luke_batch.arrays import IntArray
from luke_batch.errors import ConfigError
from luke_batch.text import breaks
from luke_batch.text.languages import normalise
from luke_batch.text.long_sentences import split_long
from luke_batch.text.scripts import main_language
from luke_batch.text.sentence_ends import before_opening, behind_closing, cuts_a_name, without_quotes

VERSION = 1
"""Raised by hand whenever the same text would give other sentences."""

_BLOCK = 1_000
"""Characters in one call of sentencex: bounds its quadratic worst case (see above), and longer than most sentences."""

_LOOKAHEAD = 64
"""A boundary this close to the end of a block may look different with the rest of the text behind it."""

_LONG = 250
"""sentencex never ends a sentence inside quotation marks, so that one mark too many joins a paragraph: sentences this
long are looked into with the marks hidden."""

# A blank line, a form feed or a paragraph separator. `\r` counts as white space in the first branch.
_PARAGRAPH = re.compile(r"(?:\r?\n[^\S\n]*\n|\r[^\S\r\n]*\r|[\f\u2029])\s*")

# Sentence ends that sentencex overlooks: Ethiopic (also as two word spaces), Tibetan, Khmer. Closing marks go along.
_MORE_ENDS = re.compile(r"(?:፡፡|[።፨]|[།༎]+|[។៕៚])[»”’\"')\]]*")

_WIDE_SPACE = re.compile(r"[^\S\x00-\x7f]")


class Segmenter(Protocol):
    """Cuts a text into sentences."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever results may change: our own version and the libraries'."""
        ...

    def segment(self, text: str, language: str | None) -> IntArray:
        """The sentences of `text`: (n, 2) int32 of [start, end) code points.

        Sorted, not overlapping, without white space at either end, none empty, and every character that is not white
        space lies in one. `language` is a code of any standard, or None. Raises nothing.
        """
        ...


class SentencexSegmenter:
    """sentencex inside bounded blocks, ICU where it panics; sentences have at most `max_characters` characters."""

    name = "sentencex"

    def __init__(self, max_characters: int = 1_000) -> None:
        if max_characters < 1:
            message = f"segmenter.max_characters is {max_characters}, but a sentence needs a character: set 1 or more"
            raise ConfigError(message)
        self._max_characters = max_characters

    @property
    def version(self) -> str:
        return f"{VERSION}/sentencex-{version('sentencex')}/{breaks.LIBRARY_VERSION}"

    def segment(self, text: str, language: str | None) -> IntArray:
        code = normalise(language) or main_language(text)
        # same length, so offsets hold; it is wide white space that sentencex panics on
        flat = _WIDE_SPACE.sub(" ", breaks.without_surrogates(text))
        sentences: list[tuple[int, int]] = []
        for start, end in _paragraphs(text):
            cuts = [*_sentence_starts(flat, start, end, code), end]
            for first, last in zip(cuts, cuts[1:], strict=False):
                sentences.extend(split_long(text, first, last, self._max_characters, code))
        return np.array(sentences, np.int32).reshape(-1, 2)


def make_segmenter(name: str, max_characters: int) -> Segmenter:
    """The segmenter that the configuration calls `name`. Raises ConfigError for an unknown name."""
    if name != SentencexSegmenter.name:
        message = f"segmenter.name is {name!r}, which does not exist: use {SentencexSegmenter.name!r}"
        raise ConfigError(message)
    return SentencexSegmenter(max_characters)


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """The stretches between blank lines, [start, end), some of them empty or white."""
    start = 0
    for gap in _PARAGRAPH.finditer(text):
        yield start, gap.start()
        start = gap.end()
    yield start, len(text)


def _sentence_starts(text: str, start: int, end: int, language: str) -> Iterator[int]:
    """Where the sentences of text[start:end] start, `start` first.

    Each block begins where the last sentence of the one before began, so that no sentence is cut by a block's end.
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
    for first, last in zip(edges, edges[1:], strict=False):
        if last - first > _LONG:
            piece = block[first:last]
            inner = _library_cuts(without_quotes(piece), language)
            cuts.update(first + before_opening(piece, cut) for cut in inner)
    ends = {behind_closing(block, cut) for cut in cuts if not cuts_a_name(block, cut, language)}
    return sorted(cut for cut in ends if 0 < cut < len(block) and breaks.between_graphemes(block, cut))


def _library_cuts(block: str, language: str) -> set[int]:
    """The inner sentence boundaries of `block` by sentencex, or by ICU where sentencex panics."""
    try:
        found = cast(list[dict[str, int]], sentencex.get_sentence_boundaries(language, block))
        cuts = {sentence["start_index"] for sentence in found}
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException:  # a panic of the Rust library is no Exception
        cuts = {int(cut) for cut in breaks.boundaries(block, "sentence", language)}
    return {cut for cut in cuts if 0 < cut < len(block)}
