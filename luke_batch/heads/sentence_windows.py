"""Every token of a text once: the text cut at its sentences into as few windows as hold it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.document.state import Document, no_spans
from luke_batch.heads.frames import sentence_cuts
from luke_batch.heads.placed_text import shown
from luke_batch.model.inputs.windows import InputBuilder, Tokens

_MOST_CHARACTERS_A_TOKEN = 16
"""A text longer than this for each token of a window hardly fits: it is cut without trying."""


@dataclass(frozen=True, slots=True)
class SentenceWindow:
    """The tokens of a window, without `<s>` and `</s>`, and the entities among them."""

    tokens: Tokens
    """Its spans are those of the entities."""
    entities: NDArray[np.intp]
    """(n,) where each entity stood in the list of all."""


def sentence_windows(
    document: Document, entities: IntArray, builder: InputBuilder, *, placed: bool = False
) -> list[SentenceWindow]:
    """The windows of a text that is tokenised around the (n, 2) spans of `entities`; none where it has no
    token.

    A text that fits is tokenised whole, a longer one sentence by sentence; a sentence over the room is cut
    where the window is full. An entity that is cut, or has no token, is in no window. `placed`: the tokens
    say where they stand in the text.
    """
    if not len(document.sentences):
        return []
    room = builder.max_tokens - 2
    if len(document.text) <= room * _MOST_CHARACTERS_A_TOKEN:
        whole = _tokenised(document.text, [(0, len(document.text))], entities, builder, placed=placed)
        if len(whole[0].tokens.ids) <= room:
            return pack(whole, room)
    cuts = list(pairwise(sentence_cuts(document)))
    return pack(_tokenised(document.text, cuts, entities, builder, placed=placed), room)


def _tokenised(
    text: str, cuts: Sequence[tuple[int, int]], entities: IntArray, builder: InputBuilder, *, placed: bool
) -> list[SentenceWindow]:
    """One window, of any length, for each range of characters."""
    inside = [np.flatnonzero((entities[:, 0] >= a) & (entities[:, 1] <= b)) for a, b in cuts]
    parts = [(text[a:b], entities[which] - np.int32(a)) for (a, b), which in zip(cuts, inside, strict=True)]
    if placed:
        tokenised = [_placed(part, spans, a, builder) for (part, spans), (a, _) in zip(parts, cuts, strict=True)]
    else:
        tokenised = builder.tokenize_many(parts)
    return [SentenceWindow(tokens, which) for tokens, which in zip(tokenised, inside, strict=True)]


def _placed(part: str, spans: IntArray, start: int, builder: InputBuilder) -> Tokens:
    """The tokens of a part of a text that begins at the character `start`."""
    tokens, pieces = builder.place(part, spans)
    return replace(tokens, characters=shown(pieces, part) + np.int32(start))


def pack(parts: Sequence[SentenceWindow], room: int) -> list[SentenceWindow]:
    """Join consecutive `parts` into windows of at most `room` tokens; a part over it is cut."""
    runs: list[list[SentenceWindow]] = []
    size = room
    for part in parts:
        for start in range(0, len(part.tokens.ids), room):
            piece = _cut(part, start, start + room)
            length = len(piece.tokens.ids)
            if size + length > room:
                runs.append([])
                size = 0
            runs[-1].append(piece)
            size += length
    return [_joined(run) for run in runs]


def _cut(part: SentenceWindow, start: int, end: int) -> SentenceWindow:
    tokens = part.tokens
    spans = tokens.spans
    kept = (spans[:, 0] >= start) & (spans[:, 1] <= end) & (spans[:, 0] < spans[:, 1])
    characters = None if tokens.characters is None else tokens.characters[start:end]
    return SentenceWindow(Tokens(tokens.ids[start:end], spans[kept] - np.int32(start), characters), part.entities[kept])


def _joined(parts: Sequence[SentenceWindow]) -> SentenceWindow:
    tokens = [part.tokens for part in parts]
    starts = np.cumsum([0, *(len(part.ids) for part in tokens)])[:-1].astype(np.int32)
    spans = [part.spans + start for part, start in zip(tokens, starts, strict=True)]
    places = [part.characters for part in tokens if part.characters is not None]
    return SentenceWindow(
        Tokens(
            np.concatenate([part.ids for part in tokens]),
            np.concatenate([no_spans(), *spans]),
            np.concatenate(places) if places else None,
        ),
        np.concatenate([part.entities for part in parts]),
    )
