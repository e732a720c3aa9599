"""Windows that overlap, over the tokens of a text that is longer than the model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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
