"""Sentences with exact character offsets.

    text -> sentence boundaries -> trim -> split what is over long

Linear in the text. A sentence depends on the language and its own paragraph alone.
"""

import re
from itertools import pairwise
from typing import Protocol

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import ConfigError
from luke_batch.text.scripts import main_language
from luke_batch.text.sentences import breaks
from luke_batch.text.sentences.languages import normalise
from luke_batch.text.sentences.long_sentences import split_long
from luke_batch.text.sentences.sentence_boundaries import paragraphs, sentence_starts

VERSION = 1
"""Raised by hand whenever the same text would give other sentences; part of the fingerprint."""

_WIDE_SPACE = re.compile(r"[^\S\x00-\x7f]")


class Segmenter(Protocol):
    """Cuts a text into sentences."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""
        ...

    def segment(self, text: str, language: str | None) -> IntArray:
        """The sentences of `text`: (n, 2) int32 of [start, end) code points.

        Sorted, not overlapping, without white space at either end, none empty, and every character that is
        not white space lies in one. `language` is a code of any standard, or None. Raises nothing.
        """
        ...


class SentencexSegmenter:
    """sentencex inside bounded blocks, ICU where it panics; no sentence above `max_characters`.

    Raises ConfigError for a `max_characters` below 1.
    """

    name = "sentencex"

    def __init__(self, max_characters: int = 1_000) -> None:
        if max_characters < 1:
            message = f"segmenter.max_characters is {max_characters}, which leaves no sentence: set 1 or more"
            raise ConfigError(message)
        self._max_characters = max_characters

    def segment(self, text: str, language: str | None) -> IntArray:
        """As `Segmenter.segment` says; without a known `language` the script decides."""
        code = normalise(language) or main_language(text)
        # same length, so offsets hold; it is wide white space that sentencex panics on
        flat = _WIDE_SPACE.sub(" ", breaks.without_surrogates(text))
        sentences: list[tuple[int, int]] = []
        for start, end in paragraphs(text):
            cuts = [*sentence_starts(flat, start, end, code), end]
            for first, last in pairwise(cuts):
                sentences.extend(split_long(text, first, last, self._max_characters, code))
        return np.array(sentences, np.int32).reshape(-1, 2)


def make_segmenter(name: str, max_characters: int) -> Segmenter:
    """The segmenter that the configuration calls `name`. Raises ConfigError for an unknown name."""
    if name != SentencexSegmenter.name:
        message = f"segmenter.name is {name!r}, which does not exist: use {SentencexSegmenter.name!r}"
        raise ConfigError(message)
    return SentencexSegmenter(max_characters)
