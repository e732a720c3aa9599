"""The decisions of linking that need no model: candidates, probabilities, and which mention is settled next.

Local scores are those of one round. In several rounds the surest mentions are settled first and the model
reads their titles in the rounds that follow: the global order of Yamada et al. 2022 ("Global Entity
Disambiguation with BERT", section 3.3), exact where each round settles one mention.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Options:
    """The candidates of one mention that the model knows; at least one."""

    titles: list[str]
    qids: list[str | None]
    ids: list[int]
    """Their entities."""
    priors: FloatArray
    """(k,) shares of the links with the mention's name; ones where there are none to know."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How logits become probabilities."""

    temperature: float
    prior_weight: float
    nil_score: float | None
    """What "none of them" scores; None: one of them is right."""
    threshold: float
    """Least probability of a title that is written."""

    def probabilities(self, logits: FloatArray, priors: FloatArray) -> FloatArray:
        """(k,) probabilities of the candidates, of which -inf logits have none."""
        scores = (logits + self.prior_weight * np.log(np.maximum(priors, 1e-9))) / self.temperature
        nil = -np.inf if self.nil_score is None else self.nil_score / self.temperature
        top = max(float(scores.max()), nil)
        exponents = np.exp(scores - top)
        return (exponents / (exponents.sum() + np.exp(nil - top))).astype(np.float32)

    def accepts(self, probabilities: FloatArray) -> bool:
        """Whether the best candidate is written: more probable than none of them, and than the threshold."""
        best = float(probabilities.max())
        nil = 1 - float(probabilities.sum()) if self.nil_score is not None else 0.0
        return best >= self.threshold and best > nil


def candidate_ids(options: Sequence[Options]) -> IntArray:
    """(n, k) entities of the candidates of n mentions, padded with -1."""
    width = max((len(option.ids) for option in options), default=0)
    ids = np.full((len(options), width), -1, np.int32)
    for row, option in enumerate(options):
        ids[row, : len(option.ids)] = option.ids
    return ids


def settled_next(best: FloatArray, waiting: NDArray[np.bool_], rounds: int | None) -> NDArray[np.intp]:
    """Which of the mentions that wait are settled now: the surest, of equals the first.

    Args:
        best: (n,) the probability of each mention's best candidate.
        waiting: (n,) whether a mention is not settled yet; at least one is.
        rounds: how many rounds are left, this one among them; None: as many as mentions.
    """
    places = np.flatnonzero(waiting)
    count = 1 if rounds is None else -(-len(places) // rounds)
    return places[np.argsort(-best[places], kind="stable")[:count]]
