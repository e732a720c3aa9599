"""Candidate mentions: runs of words inside one sentence.

`all_spans` is every run; `auto_spans` leaves out what cannot be a name: runs without a letter or digit, with
a mark at an edge that never bounds a name, with half a pair of brackets, with a quotation mark at one edge
alone. Measured on the development data that spares a fifth of the spans and loses under 1 name in 1,000, most
of those annotated by mistake ("(NY)" without its first bracket).

Linear in the number of spans, without a Python loop over them.
"""

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.text.sentences.breaks import code_points

VERSION = 1
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
