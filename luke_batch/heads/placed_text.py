"""A whole text as the model reads it: where its tokens and words meet, and the windows that overlap over one which is
longer than the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.model.inputs.pieces import PlacedPieces
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.text.visible import Visible


@dataclass(frozen=True, slots=True, eq=False)
class PlacedText:
    """The t tokens of a text that was tokenised whole, without special tokens."""

    ids: IntArray
    """(t,)"""
    characters: IntArray
    """(t, 2) the characters [start, end) that each token shows, starts and ends ascending. Tokens of one
    character share it; a token that shows none (white space) has start == end, the place of the next
    visible character.
    """
    spaces: NDArray[np.bool_]
    """(t,) tokens that are the space before a word, which then begins with another token."""

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str) -> Self:
        """Tokenise `text`."""
        placed = tokenizer.place(text)
        return cls(placed.ids, shown(placed, text), placed.spaces)

    def first_tokens(self, words: IntArray) -> NDArray[np.intp]:
        """(n,) the first token of each of the (n, 2) `words`, its space included; -1 where none shows it."""
        if not len(self.ids):
            return np.full(len(words), -1, np.intp)
        first = np.searchsorted(self.characters[:, 1], words[:, 0], side="right")
        there = np.minimum(first, len(self.ids) - 1)
        found = (first < len(self.ids)) & (self.characters[there, 0] < words[:, 1])
        before = np.maximum(there - 1, 0)
        led = (there > 0) & self.spaces[before] & (self.characters[before, 0] == words[:, 0])
        return np.where(found, np.where(led, before, there), -1)


def shown(placed: PlacedPieces, text: str) -> IntArray:
    """(t, 2) the characters of `text` that each piece shows, as `PlacedText.characters` says."""
    starts, ends = Visible.of(text).trim(placed.characters).T
    # Part of a ligature: it shares the character that the rest of it has.
    parts = placed.visible & (ends <= starts) & (starts < len(text))
    ends = np.where(parts, starts + 1, np.maximum(ends, starts))
    return np.stack([starts, ends], axis=1).astype(np.int32)


def stride_windows(count: int, room: int, stride: int) -> list[slice]:
    """Windows of `room` tokens over `count` of them; neighbours share `stride`, but at most half of the room.

    They are those of transformers' `return_overflowing_tokens`: the last one is as short as it must be. None
    where there is no token.
    """
    step = room - min(stride, room // 2)
    last = max(0, count - room)
    starts = range(0, last + step, step) if count else ()
    return [slice(start, min(start + room, count)) for start in starts]


def best_windows(windows: Sequence[slice]) -> NDArray[np.intp]:
    """(t,) the window in which each token has most context, ascending.

    The rule of the SQuAD script of BERT: the shorter of its sides counts, then the window's length, then
    which is first.
    """
    count = windows[-1].stop if windows else 0
    best, most = np.zeros(count, np.intp), np.full(count, -1.0)
    for number, window in enumerate(windows):
        size = window.stop - window.start
        place = np.arange(size)
        context = np.minimum(place, size - 1 - place) + 0.01 * size
        better = context > most[window]
        best[window][better] = number
        most[window][better] = context[better]
    return best
