"""The tokens of a document, cut at its sentences: what fills a window when the context is the document."""

from itertools import pairwise

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.document.state import Document, no_spans
from luke_batch.model.inputs.windows import InputBuilder, context_sizes


def sentence_cuts(document: Document) -> list[int]:
    """Where the text is cut: at both ends and before each sentence but the first, with the space before it.

    A space belongs to the word after it: the cut rule of the input builder.
    """
    starts: list[int] = document.sentences[1:, 0].tolist()
    cuts = [start - 1 if document.text[start - 1] == " " else start for start in starts]
    return [0, *cuts, len(document.text)]


class Surroundings:
    """Every sentence of one document, tokenised once."""

    def __init__(self, document: Document, builder: InputBuilder) -> None:
        self._text = document.text
        self._builder = builder
        cuts = sentence_cuts(document)
        parts = builder.tokenize_many([(self._text[a:b], no_spans()) for a, b in pairwise(cuts)])
        self._ids = np.concatenate([part.ids for part in parts])
        self._cuts = np.array(cuts, np.int32)
        self._offsets = np.cumsum([0, *(len(part.ids) for part in parts)])

    def count(self, start: int, end: int) -> int:
        """About how many tokens text[start:end] has: those of the sentences that it touches."""
        first = int(np.searchsorted(self._cuts, start, side="right")) - 1
        last = int(np.searchsorted(self._cuts, end, side="left"))
        return int(self._offsets[last] - self._offsets[first])

    def around(self, start: int, end: int, inner: int, room: int) -> tuple[IntArray, IntArray]:
        """The tokens beside text[start:end], itself `inner` tokens, that fill a window of `room`."""
        first = int(np.searchsorted(self._cuts, start, side="right")) - 1
        last = int(np.searchsorted(self._cuts, end, side="left"))
        # Regions begin and end with their sentences, so there is hardly anything between them and a cut.
        before = self._tokens(int(self._cuts[first]), start)
        after = self._tokens(end, int(self._cuts[last]))
        left, right = int(self._offsets[first]), len(self._ids) - int(self._offsets[last])
        sizes = context_sizes(left + len(before), inner, right + len(after), room)
        nearest = self._ids[max(0, left - sizes[0]) : left]
        following = self._ids[len(self._ids) - right :][: sizes[1]]
        preceding = np.concatenate([nearest, before])
        return preceding[len(preceding) - sizes[0] :], np.concatenate([after, following])[: sizes[1]]

    def _tokens(self, start: int, end: int) -> IntArray:
        if start >= end:
            return np.empty(0, np.int32)
        return self._builder.tokenize(self._text[start:end], no_spans()).ids
