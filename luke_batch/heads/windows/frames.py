"""From spans of a document to tokenised texts that fit the model.

A *region* is the run of sentences that a group of spans touches: one sentence nearly always, more where a
given mention crosses a boundary. A *frame* is a region tokenised around its spans, cut to what fits, with
neighbouring tokens on both sides where the context is the document. Frames depend on the document alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.document.state import Document
from luke_batch.heads.windows.surroundings import Surroundings
from luke_batch.model.inputs.windows import InputBuilder, Tokens

_OVERLAP = 128
"""Tokens that neighbouring windows of an over-long region share: longer than any mention that a head
scores.
"""

_NOTHING = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Region:
    """Characters [start, end) of a document and the spans inside them."""

    start: int
    end: int
    spans: IntArray
    """(n, 2) document offsets."""
    which: NDArray[np.intp]
    """(n,) where each span stood in the list that was grouped."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A tokenised region, or a part of it, ready for the input builder."""

    tokens: Tokens
    left: IntArray
    right: IntArray
    which: NDArray[np.intp]
    """(n,) where each of `tokens.spans` stood in the list that was grouped."""


def group_by_sentence(document: Document, spans: IntArray) -> list[Region]:
    """Regions of `spans`, in text order. Spans of a document without sentences belong to none."""
    if not len(spans) or not len(document.sentences):
        return []
    first = document.sentence_of(spans)
    last = np.maximum(np.searchsorted(document.sentences[:, 0], spans[:, 1], side="left") - 1, first)
    groups, inverse = np.unique(np.stack([first, last], axis=1), axis=0, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    members = np.split(order, np.cumsum(np.bincount(inverse.ravel(), minlength=len(groups)))[:-1])
    return [_region(document, spans, which, int(a), int(b)) for (a, b), which in zip(groups, members, strict=True)]


def region_of(document: Document, spans: IntArray) -> Region:
    """The one region that holds all of `spans`; the document has sentences."""
    first = int(document.sentence_of(spans).min())
    last = int(np.searchsorted(document.sentences[:, 0], spans[:, 1].max(), side="left")) - 1
    return _region(document, spans, np.arange(len(spans)), first, max(first, last))


def _region(document: Document, spans: IntArray, which: NDArray[np.intp], first: int, last: int) -> Region:
    own = spans[which]
    start = min(int(document.sentences[first, 0]), int(own[:, 0].min()))
    end = max(int(document.sentences[last, 1]), int(own[:, 1].max()))
    return Region(start, end, own, which)


class Framer:
    """Tokenises regions for one head."""

    def __init__(self, builder: InputBuilder, whole_document: bool) -> None:
        self._builder = builder
        self._whole_document = whole_document
        self._mention_limit = builder.tokenizer.max_mention_length

    def split(self, document: Document, regions: Sequence[Region]) -> list[Frame]:
        """Frames that hold every span which fits; a region over the limit becomes several that overlap."""
        room = self._builder.max_tokens - 2
        surroundings = self._surroundings(document, regions)
        frames: list[Frame] = []
        for region, tokens in zip(regions, self._tokenize(document, regions), strict=True):
            if len(tokens.ids) <= room:
                frames.append(self._framed(surroundings, document, region, tokens, room))
                continue
            for start, end, which in _windows(tokens, room):
                part = Tokens(tokens.ids[start:end], tokens.spans[which] - np.int32(start))
                frames.append(Frame(part, _NOTHING, _NOTHING, region.which[which]))
        return frames

    def centre(self, document: Document, regions: Sequence[Region], markers: int) -> list[Frame | None]:
        """One frame for each region with all its spans, leaving room for `markers` tokens.

        A region over the limit is cut evenly around its spans; None where these alone do not fit or one
        covers no token.
        """
        room = self._builder.max_tokens - 2 - markers
        surroundings = self._surroundings(document, regions)
        frames: list[Frame | None] = []
        for region, tokens in zip(regions, self._tokenize(document, regions), strict=True):
            first, last = int(tokens.spans[:, 0].min()), int(tokens.spans[:, 1].max())
            lengths = tokens.spans[:, 1] - tokens.spans[:, 0] + (2 if markers else 0)
            document.coverage.drop("clipped_mention", int((lengths > self._mention_limit).sum()))
            if last - first > room or (tokens.spans[:, 0] == tokens.spans[:, 1]).any():
                frames.append(None)
            elif len(tokens.ids) <= room:
                frames.append(self._framed(surroundings, document, region, tokens, room))
            else:
                start = max(0, min((first + last - room) // 2, len(tokens.ids) - room))
                part = Tokens(tokens.ids[start : start + room], tokens.spans - np.int32(start))
                frames.append(Frame(part, _NOTHING, _NOTHING, region.which))
        return frames

    def _tokenize(self, document: Document, regions: Sequence[Region]) -> list[Tokens]:
        starts = [self._start(document, region) for region in regions]
        return self._builder.tokenize_many(
            [
                (document.text[start : region.end], region.spans - np.int32(start))
                for region, start in zip(regions, starts, strict=True)
            ]
        )

    def _start(self, document: Document, region: Region) -> int:
        """With text before it, a region begins with its space: the cut rule of the input builder."""
        spaced = self._whole_document and region.start > 0 and document.text[region.start - 1] == " "
        return region.start - 1 if spaced else region.start

    def _surroundings(self, document: Document, regions: Sequence[Region]) -> Surroundings | None:
        return Surroundings(document, self._builder) if self._whole_document and regions else None

    def _framed(
        self, surroundings: Surroundings | None, document: Document, region: Region, tokens: Tokens, room: int
    ) -> Frame:
        """A region that fits, with its surroundings where these are wanted."""
        left = right = _NOTHING
        if surroundings is not None:
            left, right = surroundings.around(self._start(document, region), region.end, len(tokens.ids), room)
        return Frame(tokens, left, right, region.which)


def _windows(tokens: Tokens, room: int) -> list[tuple[int, int, NDArray[np.intp]]]:
    """Overlapping windows (start, end, spans) over too many tokens; each span goes where it has most context.

    A span too long for the overlap gets a window of its own; one longer than `room` is in none.
    """
    count = len(tokens.ids)
    overlap = min(_OVERLAP, room // 2)
    starts = np.unique(np.minimum(np.arange(0, count - overlap, room - overlap), count - room))
    middles = tokens.spans.sum(axis=1) / 2
    best = np.abs(middles[:, None] - (starts + room / 2)[None, :]).argmin(axis=1)
    inside = (tokens.spans[:, 0] >= starts[best]) & (tokens.spans[:, 1] <= starts[best] + room)
    windows = [
        (int(start), int(start) + room, np.flatnonzero(inside & (best == number)))
        for number, start in enumerate(starts)
    ]
    for span in np.flatnonzero(~inside):
        first, last = (int(bound) for bound in tokens.spans[span])
        if last - first <= room:
            start = max(0, min((first + last - room) // 2, count - room))
            windows.append((start, start + room, np.array([span])))
    return [window for window in windows if len(window[2])]
