"""Words for training spans: ICU's, cut further so that no gold span falls inside one."""

from __future__ import annotations

import re
import zlib

import numpy as np

from luke_batch.arrays import IntArray
from luke_batch.text.breaks import boundaries

# Kana, Han, Hangul are not among them: Korean has spaces.
_UNSPACED = re.compile("[\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_INNER = re.compile(r"['’.\-_/:&]")


def training_words(text: str) -> IntArray:
    """(n, 2) the character ranges of the words; punctuation is a word of its own, white space is none.

    In Chinese and Japanese, half of all texts are cut into characters and half into ICU's words, so that the model
    knows both cuts.
    """
    cuts = set(boundaries(text, "word").tolist())
    for match in _INNER.finditer(text):
        cuts |= {match.start(), match.end()}
    if zlib.crc32(text.encode("utf-8", "replace")) & 1:
        for match in _UNSPACED.finditer(text):
            cuts |= {match.start(), match.end()}
    edges = sorted(cuts)
    words = [pair for pair in zip(edges, edges[1:], strict=False) if not text[pair[0] : pair[1]].isspace()]
    return np.array(words, np.int32).reshape(-1, 2)
