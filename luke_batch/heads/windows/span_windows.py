"""Which candidate spans of a document share the windows of `ner`.

Entities of a window attend to one another, so a span's logits depend on its company. The embedded head was
trained on windows of the spans that its scorer leaves: with a hundred hopeless ones among them it misses
mentions. So likely spans share windows, the same ones for `all` and `auto`, and the others, which
`all` asks for as well, have windows of their own.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.config import Proposer
from luke_batch.document.state import Document
from luke_batch.heads.base import Answer, Ask, Setup
from luke_batch.heads.candidates import candidates, is_among
from luke_batch.heads.windows.frames import Frame, Framer, group_by_sentence
from luke_batch.model.engine.engine import Task
from luke_batch.model.inputs.windows import Window, chunks

Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Spans of a document that share windows with no others."""

    frames: list[Frame]
    wanted: Booleans
    """(n,) which of the document's candidates they are; `frames` may hold spans that are none of them."""


class SpanWindows:
    """Deals the candidates of one `ner` head to windows."""

    def __init__(self, setup: Setup, proposers: Sequence[Proposer], least_bound: float | None) -> None:
        """`least_bound`: the probability of beginning and ending there that a likely span has by the
        checkpoint's span scorer, and that `auto` asks for; None: there is no scorer, and all are likely.
        """
        self._builder = setup.builder
        self._max_words = setup.max_words
        self._proposers = proposers
        self._least_bound = least_bound
        self._framer = Framer(setup.builder, setup.whole_document)

    def of(
        self, document: Document, spans: IntArray, kept: Booleans
    ) -> Generator[Ask, Answer, tuple[list[Window], NDArray[np.intp]]]:
        """Windows of at most 128 spans each, and which span each entity of them stands for. What is left out
        is counted in the document's coverage.

        Args:
            document: whose sentences are read.
            spans: (n, 2) all candidates, sorted as `candidates` does.
            kept: (n,) those that are read however long they are.
        """
        parts = yield from self._parts(document, spans)
        _count_left_out(document, len(spans), parts)
        windows: list[Window] = []
        shown: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
        for part in parts:
            for frame in part.frames:
                usable = self._usable(document, frame, part.wanted[frame.which], kept[frame.which])
                for chunk in chunks(len(usable)):
                    windows.append(self._builder.mention_window(frame.tokens, frame.left, frame.right, usable[chunk]))
                    shown.append(frame.which[usable[chunk]])
        return windows, np.concatenate(shown)

    def _parts(self, document: Document, spans: IntArray) -> Generator[Ask, Answer, list[_Part]]:
        """The likely spans, and for `all` the others."""
        names = self._proposers
        if self._least_bound is None or {"all", "auto"}.isdisjoint(names):
            every = np.ones(len(spans), bool)
            return [_Part(self._frames(document, spans, every), every)]
        usual: list[Proposer] = ["auto" if name == "all" else name for name in names]
        others: list[Proposer] = [name for name in usual if name != "auto"]
        looked_at = np.ones(len(spans), bool)
        if "all" in names:
            looked_at = is_among(spans, candidates(document, usual, self._max_words))
        frames = self._frames(document, spans, looked_at)
        likely = yield from self._likely(frames, len(spans), self._least_bound)
        likely |= is_among(spans, candidates(document, others, self._max_words))
        parts = [_Part(frames, likely)]
        if "all" in names:
            parts.append(_Part(self._frames(document, spans, ~likely), ~likely))
        return parts

    def _frames(self, document: Document, spans: IntArray, wanted: Booleans) -> list[Frame]:
        """Those of the `wanted` of all `spans`, which alone cut the text; `which` counts in all."""
        places = np.flatnonzero(wanted)
        regions = group_by_sentence(document, spans[places])
        return [replace(frame, which=places[frame.which]) for frame in self._framer.split(document, regions)]

    def _likely(self, frames: Sequence[Frame], count: int, least: float) -> Generator[Ask, Answer, Booleans]:
        """(count,) whether each span may begin and end a mention, by the tokens of its frame."""
        likely = np.zeros(count, bool)
        none = np.zeros(0, np.int32)
        windows = [self._builder.mention_window(item.tokens, item.left, item.right, none) for item in frames]
        answer: Answer = (yield Ask(Task.BOUNDS, windows)) if windows else []
        for frame, bounds in zip(frames, answer, strict=True):
            # The window's first token is <s>; a span without tokens is dropped elsewhere.
            first, last = (frame.tokens.spans + 1 + len(frame.left)).T
            lower = np.minimum(bounds[first, 0], bounds[np.maximum(last - 1, 0), 1])
            likely[frame.which] = lower >= least
        return likely

    def _usable(self, document: Document, frame: Frame, wanted: Booleans, kept: Booleans) -> IntArray:
        """Indices of the wanted spans of a frame that the model can read; counts the others."""
        limit = self._builder.tokenizer.max_mention_length
        drop = document.coverage.drop
        lengths = frame.tokens.spans[:, 1] - frame.tokens.spans[:, 0]
        too_long = (lengths > limit) & ~kept & wanted
        drop("no_token", int((wanted & (lengths == 0)).sum()))
        drop("longer_than_max_mention_length", int(too_long.sum()))
        drop("clipped_mention", int(((lengths > limit) & kept).sum()))
        return np.flatnonzero((lengths > 0) & ~too_long & wanted).astype(np.int32)


def _count_left_out(document: Document, count: int, parts: Sequence[_Part]) -> None:
    """Count the spans that no part wants, and those that no frame of their part has."""
    framed, wanted, placed = np.zeros((3, count), bool)
    for part in parts:
        wanted |= part.wanted
        for frame in part.frames:
            framed[frame.which] = True
            placed[frame.which] |= part.wanted[frame.which]
    unlikely = int((framed & ~wanted).sum())
    document.coverage.drop("unlikely_span", unlikely)
    document.coverage.drop(
        "longer_than_window" if len(document.sentences) else "no_token", count - unlikely - int(placed.sum())
    )
