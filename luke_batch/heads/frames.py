"""Which spans a head looks at, and from them to tokenised texts that fit the model.

*Candidates* are the union of what the head's proposers find, without exact duplicates.
A *region* is the run of sentences that a group of spans touches: one sentence nearly always, more where a
given mention crosses a boundary, and as many as fill a window for a *passage*. A *frame* is a region tokenised around
its spans, cut to what fits, with neighbouring tokens on both sides where the context is the document. Frames depend
on the document alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.document.state import Document, Mentions, no_spans
from luke_batch.model.inputs.windows import InputBuilder, Tokens, context_sizes
from luke_batch.text.words import all_spans, auto_spans

ALWAYS_KEPT = ("given", "previous")
"""Mentions of these proposers exist whatever a head thinks of them."""


def candidates(document: Document, proposers: Sequence[str], max_words: int) -> IntArray:
    """Spans of all `proposers`, sorted by (start, -end), each once. Shape (n, 2)."""
    found = [_propose(document, proposer, max_words) for proposer in proposers]
    return _sorted(np.concatenate([no_spans(), *found]))


def always_kept(document: Document, proposers: Sequence[str]) -> IntArray:
    """The spans among `candidates` that no head may drop. Shape (n, 2)."""
    found = [_propose(document, proposer, 0) for proposer in proposers if proposer in ALWAYS_KEPT]
    return _sorted(np.concatenate([no_spans(), *found]))


def as_mentions(document: Document, spans: IntArray, proposers: Sequence[str]) -> Mentions:
    """`spans` as mentions without scores; those that the `given` proposer brings bear the label and title
    they came with.
    """
    mentions = Mentions.unlabelled(spans)
    if "given" in proposers:
        places = mentions.find(document.given).tolist()
        for label, title, place in zip(document.given_labels, document.given_titles, places, strict=True):
            mentions.labels[place] = label or mentions.labels[place]
            mentions.titles[place] = title or mentions.titles[place]
    return mentions


def is_among(spans: IntArray, others: IntArray) -> NDArray[np.bool_]:
    """For each span whether it is one of `others` (sorted as `candidates` does). Shape (len(spans),)."""
    return Mentions.unlabelled(others).find(spans) >= 0


def _sorted(spans: IntArray) -> IntArray:
    unique = np.unique(spans, axis=0)
    return unique[np.lexsort((-unique[:, 1], unique[:, 0]))]


def _propose(document: Document, proposer: str, max_words: int) -> IntArray:
    match proposer:
        case "all":
            return all_spans(document.words, document.sentences, max_words)
        case "auto":
            return auto_spans(document.text, document.words, document.sentences, max_words)
        case "given":
            return document.given
        case "previous":
            return document.mentions.spans
        case _:
            return document.found.get(proposer, no_spans())


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


class Frames:
    """The frames of one document for one head. What surrounds its regions is tokenised once, when it is needed."""

    def __init__(self, document: Document, builder: InputBuilder, whole_document: bool) -> None:
        self._document = document
        self._builder = builder
        self._whole_document = whole_document
        self._mention_limit = builder.tokenizer.max_mention_length

    @cached_property
    def _surroundings(self) -> Surroundings:
        return Surroundings(self._document, self._builder)

    def group(self, spans: IntArray) -> list[Region]:
        """The regions of `spans` for a head that looks at all mentions of a window together: passages where the context
        is the document, else sentences.
        """
        regions = group_by_sentence(self._document, spans)
        return _passages(regions, self._surroundings, self._builder) if self._whole_document and regions else regions

    def split(self, regions: Sequence[Region]) -> list[Frame]:
        """Frames that hold every span which fits; a region over the limit becomes several that overlap."""
        room = self._builder.max_tokens - 2
        frames: list[Frame] = []
        for region, tokens in zip(regions, self._tokenize(regions), strict=True):
            if len(tokens.ids) <= room:
                frames.append(self._framed(region, tokens, room))
                continue
            for start, end, which in _windows(tokens, room):
                part = Tokens(tokens.ids[start:end], tokens.spans[which] - np.int32(start))
                frames.append(Frame(part, _NOTHING, _NOTHING, region.which[which]))
        return frames

    def centre(self, regions: Sequence[Region], markers: int) -> list[Frame | None]:
        """One frame for each region with all its spans, leaving room for `markers` tokens.

        A region over the limit is cut evenly around its spans; None where these alone do not fit or one
        covers no token.
        """
        room = self._builder.max_tokens - 2 - markers
        frames: list[Frame | None] = []
        for region, tokens in zip(regions, self._tokenize(regions), strict=True):
            first, last = int(tokens.spans[:, 0].min()), int(tokens.spans[:, 1].max())
            lengths = tokens.spans[:, 1] - tokens.spans[:, 0] + (2 if markers else 0)
            self._document.coverage.drop("clipped_mention", int((lengths > self._mention_limit).sum()))
            if last - first > room or (tokens.spans[:, 0] == tokens.spans[:, 1]).any():
                frames.append(None)
            elif len(tokens.ids) <= room:
                frames.append(self._framed(region, tokens, room))
            else:
                start = max(0, min((first + last - room) // 2, len(tokens.ids) - room))
                part = Tokens(tokens.ids[start : start + room], tokens.spans - np.int32(start))
                frames.append(Frame(part, _NOTHING, _NOTHING, region.which))
        return frames

    def _tokenize(self, regions: Sequence[Region]) -> list[Tokens]:
        starts = [self._start(region) for region in regions]
        return self._builder.tokenize_many(
            [
                (self._document.text[start : region.end], region.spans - np.int32(start))
                for region, start in zip(regions, starts, strict=True)
            ]
        )

    def _start(self, region: Region) -> int:
        """With text before it, a region begins with its space: the cut rule of the input builder."""
        spaced = self._whole_document and region.start > 0 and self._document.text[region.start - 1] == " "
        return region.start - 1 if spaced else region.start

    def _framed(self, region: Region, tokens: Tokens, room: int) -> Frame:
        """A region that fits, with its surroundings where these are wanted."""
        left = right = _NOTHING
        if self._whole_document:
            left, right = self._surroundings.around(self._start(region), region.end, len(tokens.ids), room)
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


def _passages(regions: Sequence[Region], surroundings: Surroundings, builder: InputBuilder) -> list[Region]:
    """Regions of as many sentences as fit into a window, from the first sentence with a span on; every span
    is in one of them.
    """
    room = builder.max_tokens - 2
    passages = [regions[0]]
    for region in regions[1:]:
        last = passages[-1]
        end = max(last.end, region.end)
        if surroundings.count(last.start, end) <= room:
            joined = np.concatenate([last.spans, region.spans]), np.concatenate([last.which, region.which])
            passages[-1] = Region(last.start, end, *joined)
        else:
            passages.append(region)
    return passages
