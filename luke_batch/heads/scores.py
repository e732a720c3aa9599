"""Labels of a head and the calibrated probabilities of its logits."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import ConfigError
from luke_batch.model.files.facts import HeadFacts


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

    @classmethod
    def of(
        cls,
        facts: HeadFacts,
        *,
        multi: bool | Literal["auto"] = False,
        none: int = -1,
        threshold: float | None = None,
    ) -> Self:
        """Those of a checkpoint's head; settings of the job go before what the checkpoint says."""
        several = bool(facts.multi_label) if multi == "auto" else multi
        return cls(
            names=facts.labels,
            none=none,
            multi=several,
            temperature=facts.temperature,
            threshold=threshold or facts.threshold or 0.5,
            offsets=facts.offsets if several else (),
        )

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


def none_index(head: str, named: str | None, facts: HeadFacts, usual: str, path: str) -> int | None:
    """Which label means "nothing": the one that the job names, else the checkpoint, else the `usual` one; None where
    the checkpoint has no such label. ConfigError where a name is none of its labels.
    """
    name = named or facts.none_label
    if name is None:
        return facts.labels.index(usual) if usual in facts.labels else None
    if name not in facts.labels:
        shown = ", ".join(facts.labels[:8])
        raise ConfigError(f"heads ({head}): {path} has no label {name!r} for `none_label`; it has {shown}")
    return facts.labels.index(name)
