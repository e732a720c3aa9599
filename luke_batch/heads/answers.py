"""From logits of starts and ends to answers and their scores: the rules of the SQuAD script of BERT."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray

N_BEST = 20
"""Starts and ends of a window that are paired, and answers of a text that share the probability."""


class Found(NamedTuple):
    """An answer: characters [start, end) of the text, and the sum of their two logits."""

    logit: float
    start: int
    end: int


def window_answers(logits: FloatArray, characters: IntArray, own: NDArray[np.bool_], most_tokens: int) -> list[Found]:
    """The pairs of the best starts and ends of a window that make an answer of at most `most_tokens`.

    A token that shows no character ends none; one that is the space before a word begins with that word.

    Args:
        logits: (t, 2) of the t tokens of the text in the window.
        characters: (t, 2) what each of them shows.
        own: (t,) tokens that have most context in this window: an answer starts with one of them.
        most_tokens: longest answer.
    """
    starts = _best(logits[:, 0], np.flatnonzero(own))
    ends = _best(logits[:, 1], np.flatnonzero(characters[:, 0] < characters[:, 1]))
    length = ends[None, :] - starts[:, None]
    fitting = (length >= 0) & (length < most_tokens) & (characters[starts, :1] < characters[ends, 1][None, :])
    first, last = (places[index] for places, index in zip((starts, ends), np.nonzero(fitting), strict=True))
    sums = logits[first, 0] + logits[last, 1]
    rows = zip(sums.tolist(), characters[first, 0].tolist(), characters[last, 1].tolist(), strict=True)
    return [Found(*row) for row in rows]


def best_answers(found: Sequence[Found]) -> list[Found]:
    """The best of them, best first, each span once; of equals the earlier and shorter one."""
    spans: set[tuple[int, int]] = set()
    best: list[Found] = []
    for answer in sorted(found, key=lambda answer: (-answer.logit, answer.start, answer.end)):
        if len(best) < N_BEST and (answer.start, answer.end) not in spans:
            spans.add((answer.start, answer.end))
            best.append(answer)
    return best


def rank(
    best: Sequence[Found], nothing: float | None, margin: float, temperature: float
) -> list[tuple[tuple[int, int] | None, float]]:
    """Answers and perhaps "no answer" (None) with their probabilities, in the order to be written.

    The probabilities are the softmax of all logits divided by `temperature`. The order is that of the logits;
    but "no answer" comes first only where it exceeds the best answer by more than `margin`.

    Args:
        best: answers, best first.
        nothing: logit of "no answer"; None: it is no candidate.
        margin: in logits.
        temperature: of the checkpoint.
    """
    spans: list[tuple[int, int] | None] = [(answer.start, answer.end) for answer in best]
    logits = [answer.logit for answer in best]
    if nothing is not None:
        place = sum(logit >= nothing for logit in logits)
        if best:
            place = 0 if nothing - logits[0] > margin else max(place, 1)
        spans.insert(place, None)
        logits.insert(place, nothing)
    if not logits:
        return []
    scaled = (np.array(logits) - max(logits)) / temperature
    weights = np.exp(scaled)
    return list(zip(spans, (weights / weights.sum()).tolist(), strict=True))


def _best(logits: FloatArray, places: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those N_BEST of the `places` that have the largest logits, of equals the earlier."""
    return places[np.argsort(-logits[places], kind="stable")[:N_BEST]]
