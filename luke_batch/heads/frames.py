"""From spans of a document to tokenised texts that fit the model.

A *region* is the run of sentences that a group of spans touches: one sentence nearly always, more where a
given mention crosses a boundary. A *frame* is a region tokenised around its spans, cut to what fits, with
neighbouring tokens on both sides where the context is the document. Frames depend on the document alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luke_batch.arrays import IntArray
from luke_batch.document.state import Document
from luke_batch.model.windows import InputBuilder, Tokens, context

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
    return [
        _region(document, spans, which, int(a), int(b)) for (a, b), which in zip(groups, members, strict=True)
    ]


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

    def split(self, document: Document, regions: Sequence[Region]) -> list[Frame]:
        """Frames that hold every span which fits; a region over the limit becomes several that overlap."""
        room = self._builder.max_tokens - 2
        frames: list[Frame] = []
        for region, tokens in zip(regions, self._tokenize(document, regions), strict=True):
            if len(tokens.ids) <= room:
                left, right = self._context(document, region, len(tokens.ids), room)
                frames.append(Frame(tokens, left, right, region.which))
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
        frames: list[Frame | None] = []
        for region, tokens in zip(regions, self._tokenize(document, regions), strict=True):
            first, last = int(tokens.spans[:, 0].min()), int(tokens.spans[:, 1].max())
            if last - first > room or (tokens.spans[:, 0] == tokens.spans[:, 1]).any():
                frames.append(None)
            elif len(tokens.ids) <= room:
                left, right = self._context(document, region, len(tokens.ids), room)
                frames.append(Frame(tokens, left, right, region.which))
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

    def _context(
        self, document: Document, region: Region, inner: int, room: int
    ) -> tuple[IntArray, IntArray]:
        if not self._whole_document or inner >= room:
            return _NOTHING, _NOTHING
        left = self._before(document, self._start(document, region), room - inner)
        right = self._after(document, region.end, room - inner)
        return context(left, inner, right, room)

    def _before(self, document: Document, end: int, needed: int) -> IntArray:
        """At least the last `needed` tokens of text[:end], if it has so many, read sentence by sentence."""
        parts: list[IntArray] = []
        sentence = int(np.searchsorted(document.sentences[:, 0], end)) - 1
        while needed > 0 and end > 0:
            start = cut_before(document, sentence)
            if start < end:
                parts.append(self._ids(document.text[start:end]))
                needed -= len(parts[-1])
                end = start
            sentence -= 1
        return np.concatenate([_NOTHING, *reversed(parts)])

    def _after(self, document: Document, start: int, needed: int) -> IntArray:
        """At least the first `needed` tokens of text[start:], if it has so many, read sentence by
        sentence.
        """
        parts: list[IntArray] = []
        sentence = int(np.searchsorted(document.sentences[:, 0], start))
        while needed > 0 and start < len(document.text):
            end = cut_before(document, sentence)
            if start < end:
                parts.append(self._ids(document.text[start:end]))
                needed -= len(parts[-1])
                start = end
            sentence += 1
        return np.concatenate([_NOTHING, *parts])

    def _ids(self, text: str) -> IntArray:
        return self._builder.tokenize(text, np.empty((0, 2), np.int32)).ids


def cut_before(document: Document, sentence: int) -> int:
    """Where the text is cut before a sentence: a space belongs to the word after it. The ends of the text
    are cuts too.
    """
    if sentence <= 0:
        return 0
    if sentence >= len(document.sentences):
        return len(document.text)
    start = int(document.sentences[sentence, 0])
    return start - 1 if document.text[start - 1] == " " else start


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
