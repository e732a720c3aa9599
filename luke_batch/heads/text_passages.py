"""A whole text in as few windows as hold it, each token once, with entities at spans of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from luke_batch.arrays import IntArray
from luke_batch.document.state import Document, no_spans
from luke_batch.heads.surroundings import sentence_cuts
from luke_batch.model.windows import InputBuilder, Tokens

_MOST_CHARACTERS_A_TOKEN = 16
"""A text longer than this for each token of a window hardly fits: it is cut without trying."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """A run of the text's tokens, and the entities inside of it."""

    tokens: Tokens
    """Its spans are those of the entities."""
    which: NDArray[np.intp]
    """(n,) where each entity stood in the list of all."""


def text_parts(document: Document, entities: IntArray, builder: InputBuilder) -> list[TextPart]:
    """The tokens of the text in parts of a window's room, tokenised around the (n, 2) spans of `entities`.

    A text that fits is tokenised whole; a longer one is cut at sentences, and a sentence over the room where
    it is full. An entity that is cut, or has no token, is in no part.
    """
    if not len(document.sentences):
        return []
    room = builder.max_tokens - 2
    if len(document.text) <= room * _MOST_CHARACTERS_A_TOKEN:
        tokens = builder.tokenize(document.text, entities)
        if len(tokens.ids) <= room:
            whole = _cut(TextPart(tokens, np.arange(len(entities))), 0, room)
            return [whole] if len(tokens.ids) else []
    bounds = list(pairwise(sentence_cuts(document)))
    inside = [np.flatnonzero((entities[:, 0] >= a) & (entities[:, 1] <= b)) for a, b in bounds]
    tokenised = builder.tokenize_many(
        [
            (document.text[a:b], entities[which] - np.int32(a))
            for (a, b), which in zip(bounds, inside, strict=True)
        ]
    )
    return pack([TextPart(tokens, which) for tokens, which in zip(tokenised, inside, strict=True)], room)


def pack(parts: Sequence[TextPart], room: int) -> list[TextPart]:
    """Join consecutive `parts` into runs of at most `room` tokens; a part over it is cut."""
    runs: list[list[TextPart]] = []
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


def _cut(part: TextPart, start: int, end: int) -> TextPart:
    spans = part.tokens.spans
    kept = (spans[:, 0] >= start) & (spans[:, 1] <= end) & (spans[:, 0] < spans[:, 1])
    return TextPart(Tokens(part.tokens.ids[start:end], spans[kept] - np.int32(start)), part.which[kept])


def _joined(parts: Sequence[TextPart]) -> TextPart:
    ids = np.concatenate([part.tokens.ids for part in parts])
    starts = np.cumsum([0, *(len(part.tokens.ids) for part in parts)])[:-1].astype(np.int32)
    moved = [part.tokens.spans + start for part, start in zip(parts, starts, strict=True)]
    which = np.concatenate([part.which for part in parts])
    return TextPart(Tokens(ids, np.concatenate([no_spans(), *moved])), which)
