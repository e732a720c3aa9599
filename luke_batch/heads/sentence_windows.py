"""Every token of a text once: the text cut at its sentences into as few windows as hold it."""

from itertools import pairwise

import numpy as np

from luke_batch.arrays import IntArray
from luke_batch.document.state import Document, no_spans
from luke_batch.heads.surroundings import sentence_cuts
from luke_batch.model.windows import InputBuilder

_MOST_CHARACTERS_A_TOKEN = 16
"""A text longer than this for each token of a window hardly fits: it is cut without trying."""


def sentence_windows(document: Document, builder: InputBuilder) -> list[IntArray]:
    """Token ids of each window, without `<s>` and `</s>`; none where the text has no token.

    A text that fits into one is tokenised whole, a longer one sentence by sentence.
    """
    room = builder.max_tokens - 2
    if not len(document.sentences):
        return []
    if len(document.text) <= room * _MOST_CHARACTERS_A_TOKEN:
        tokens = _ids(builder, [document.text])[0]
        if len(tokens) <= room:
            return [tokens] if len(tokens) else []
    cuts = sentence_cuts(document)
    return pack(_ids(builder, [document.text[a:b] for a, b in pairwise(cuts)]), room)


def _ids(builder: InputBuilder, texts: list[str]) -> list[IntArray]:
    return [tokens.ids for tokens in builder.tokenize_many([(text, no_spans()) for text in texts])]


def pack(parts: list[IntArray], room: int) -> list[IntArray]:
    """Join consecutive `parts` into runs of at most `room` tokens; a part over it is cut."""
    runs: list[IntArray] = []
    current: list[IntArray] = []
    size = 0
    for part in parts:
        for start in range(0, len(part), room):
            piece = part[start : start + room]
            if size + len(piece) > room:
                runs.append(np.concatenate(current))
                current, size = [], 0
            current.append(piece)
            size += len(piece)
    return [*runs, np.concatenate(current)] if current else runs
