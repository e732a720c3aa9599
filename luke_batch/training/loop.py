"""Training against the clock: the learning rate follows the share of the time budget that has passed.

A run therefore always ends well: warm-up, then a linear fall to nothing exactly when the budget is spent, on
whatever machine. It can be killed at any time and resumed from its last checkpoint, with the time it had
left.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from luke_batch.model.device import multiplies_bfloat16
from luke_batch.training.model import MultiTaskModel, collate, loss_of, start_rare
from luke_batch.training.optimizer import optimizer_of
from luke_batch.training.sampling import Batches

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How a run trains, and when it writes."""

    seconds: float
    """The time budget, over all resumed parts."""
    encoder_rate: float = 2e-4
    head_rate: float = 8e-4
    """For heads and entity rows, which start from nothing."""
    weight_decay: float = 0.01
    warm_up: float = 0.04
    """The share of the budget in which the rate rises."""
    clip: float = 1.0
    bfloat16: bool = field(default_factory=multiplies_bfloat16)
    checkpoint_every: float = 300.0
    snapshot_every: float = 900.0
    log_every: int = 25
    seed: int = 0


@dataclass
class Progress:
    """Where a run stands."""

    step: int = 0
    elapsed: float = 0.0
    examples: dict[str, int] = field(default_factory=dict[str, int])
    losses: dict[str, float] = field(default_factory=dict[str, float])
    """A running mean of each task's loss."""


def rate_share(share: float, warm_up: float) -> float:
    """The part of the full learning rate at this share of the budget."""
    if share < warm_up:
        return max(share / warm_up, 0.02)
    return max(1.0 - share, 0.0) / (1.0 - warm_up)


class Trainer:
    """Draws a task, takes one step on one of its batches, and so on until the time is spent."""

    def __init__(
        self,
        model: MultiTaskModel,
        sources: dict[str, Batches],
        shares: dict[str, float],
        pad_id: int,
        config: LoopConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`shares`: the part of all steps that each task gets."""
        self.model = model
        self.config = config
        self.progress = Progress()
        self._sources = sources
        self._names = list(sources)
        total = sum(shares[name] for name in self._names)
        self._shares = [shares[name] / total for name in self._names]
        self._pad_id = pad_id
        self._clock = clock
        self._rng = np.random.default_rng(config.seed)
        self._optimizer = optimizer_of(model, config.encoder_rate, config.head_rate, config.weight_decay)
        torch.manual_seed(config.seed)

    def run(self, checkpoint: Path | None = None, snapshot: Callable[[], None] | None = None) -> None:
        """Trains until the budget is spent; `snapshot` is called now and then, within the budget."""
        progress, config = self.progress, self.config
        begun = self._clock() - progress.elapsed
        saved = shown = progress.elapsed
        while progress.elapsed < config.seconds:
            self.step()
            progress.elapsed = self._clock() - begun
            if progress.step % config.log_every == 0:
                self._report()
            if checkpoint is not None and progress.elapsed - saved >= config.checkpoint_every:
                self.save(checkpoint)
                saved = progress.elapsed
            if snapshot is not None and progress.elapsed - shown >= config.snapshot_every:
                snapshot()
                shown = progress.elapsed
        self._report()
        if checkpoint is not None:
            self.save(checkpoint)

    def start(self) -> None:
        """Prepares the heads of a new run; a resumed one has them in its checkpoint."""
        for name, spec in self.model.specs.items():
            if spec.multi_label:
                inputs, _, _ = collate(self._sources[name].next(), self._pad_id, multi_label=True)
                start_rare(self.model, name, inputs)

    def step(self) -> float:
        """One step on one batch of a random task; returns its loss."""
        name = self._names[int(self._rng.choice(len(self._names), p=self._shares))]
        share = self.progress.elapsed / self.config.seconds
        examples = self._sources[name].next(share)
        inputs, targets, known = collate(examples, self._pad_id, self.model.specs[name].multi_label)
        for group in self._optimizer.param_groups:
            group["lr"] = group["full_rate"] * rate_share(share, self.config.warm_up)
        self.model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bfloat16):
            logits = self.model(name, inputs)
        loss = loss_of(logits, targets, known)
        loss.backward()
        trained = [item for item in self.model.parameters() if item.grad is not None]
        nn.utils.clip_grad_norm_(trained, self.config.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        progress = self.progress
        progress.step += 1
        progress.examples[name] = progress.examples.get(name, 0) + len(examples)
        progress.losses[name] = 0.97 * progress.losses.get(name, value) + 0.03 * value
        return value

    def _report(self) -> None:
        progress = self.progress
        losses = " ".join(f"{name} {value:.3f}" for name, value in sorted(progress.losses.items()))
        seen = " ".join(f"{name} {count}" for name, count in sorted(progress.examples.items()))
        log.info(
            "step %d  %.0f of %.0f s  loss: %s  examples: %s",
            progress.step,
            progress.elapsed,
            self.config.seconds,
            losses,
            seen,
        )

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, as tensors and plain values."""
        return {
            "model": {name: item for name, item in self.model.state_dict().items() if name not in _FROZEN},
            "optimizer": self._optimizer.state_dict(),
            "words": self._words(),
            "step": self.progress.step,
            "elapsed": self.progress.elapsed,
            "examples": dict(self.progress.examples),
            "losses": dict(self.progress.losses),
            "rng": self._rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
            "sources": {name: source.state() for name, source in self._sources.items()},
        }

    def save(self, file: Path) -> None:
        """Writes the state; a kill in the middle leaves the previous one whole."""
        partial = file.with_name(file.name + ".partial")
        torch.save(self.state(), partial)
        partial.replace(file)

    def resume(self, file: Path) -> None:
        """Continues where `save` was called; ValueError where that was with another vocabulary."""
        state: dict[str, Any] = torch.load(file, weights_only=True)
        if not np.allclose(state["words"], self._words(), rtol=1e-4):
            message = f"{file}: was trained on another vocabulary; remove it to start anew"
            raise ValueError(message)
        self.model.load_state_dict(state["model"], strict=False)
        self._optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(state["step"], state["elapsed"], state["examples"], state["losses"])
        self._rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])
        for name, source in self._sources.items():
            source.restore(state["sources"][name])

    def _words(self) -> list[float]:
        """Tells one vocabulary from another: its size and the sum of its rows, which never change."""
        rows = self.model.encoder.embeddings.word_embeddings.weight
        return [float(len(rows)), float(rows.double().sum())]


_FROZEN = frozenset({"encoder.embeddings.word_embeddings.weight"})
"""Not in a checkpoint: they come from the base again."""
