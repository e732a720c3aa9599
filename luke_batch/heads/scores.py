"""Labels of a head and the calibrated probabilities of its logits."""

from dataclasses import dataclass

import numpy as np

from luke_batch.base.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class Labels:
    """What a head can say, and how its raw logits become probabilities."""

    names: tuple[str, ...]
    none: int
    """Index of the label that is not an output; -1 where every label is one."""
    multi: bool
    """Several labels at once (sigmoid), or exactly one (softmax)."""
    temperature: float = 1.0
    threshold: float = 0.5
    """Least probability of a label that is written, where several may be."""
    offsets: tuple[float, ...] = ()
    """Added to the logits of each label before the division, where several may hold; empty: nothing."""

    def probabilities(self, logits: FloatArray) -> FloatArray:
        """(n, labels) calibrated probabilities; -inf logits have none."""
        if self.multi and self.offsets:
            logits = logits + np.array(self.offsets, np.float32)
        scaled = logits / np.float32(self.temperature)
        if self.multi:
            return (0.5 * (1 + np.tanh(scaled / 2))).astype(np.float32)  # a sigmoid that cannot overflow
        exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return (exponents / exponents.sum(axis=-1, keepdims=True)).astype(np.float32)

    def decode(self, logits: FloatArray) -> list[tuple[str, float]]:
        """The labels of one (labels,) row of logits with their probabilities, best first; may be none.

        multi: every label at or above the threshold. Else the label of the largest raw logit, unless that
            is `none`.
        """
        probabilities = self.probabilities(logits[None])[0]
        chosen = np.flatnonzero(probabilities >= self.threshold) if self.multi else np.array([logits.argmax()])
        chosen = chosen[chosen != self.none]
        chosen = chosen[np.argsort(-probabilities[chosen], kind="stable")]
        return [(self.names[index], float(probabilities[index])) for index in chosen.tolist()]
