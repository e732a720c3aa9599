"""Training to a budget of steps or of seconds: the learning rate follows the share of it that is spent.

A run therefore always ends well: warm-up, then a linear fall to nothing exactly when the budget is spent, a
budget of seconds on whatever machine. It can be killed at any time and resumed from its last checkpoint, with
what it had left. Several processes take the same steps, each on batches of its own, and average gradients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from luke_batch.training.batches import Batches, Example, collate, collate_targets
from luke_batch.training.model import MultiTaskModel, VectorLoss, loss_of, vector_loss_of
from luke_batch.training.parallel import WorkerGroup


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How a run trains, and when it writes."""

    seconds: float | None = None
    """The time budget, over all resumed parts; for one process, as clocks differ."""
    steps: int | None = None
    """The budget of steps; exactly one of the two."""
    encoder_rate: float = 2e-4
    head_rate: float = 8e-4
    """For heads and entity rows, which start from nothing."""
    weight_decay: float = 0.01
    warm_up: float = 0.04
    """The share of the budget in which the rate rises."""
    clip: float = 1.0
    bfloat16: bool = False
    checkpoint_every: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None):
            raise ValueError("a run is bounded by seconds or by steps")


@dataclass
class Progress:
    """Where a run stands."""

    step: int = 0
    elapsed: float = 0.0
    examples: dict[str, int] = field(default_factory=dict[str, int])
    losses: dict[str, float] = field(default_factory=dict[str, float])
    """A running mean of each task's loss."""
    best: float | None = None
    """The best dev score so far."""


def rate_share(share: float, warm_up: float) -> float:
    """The part of the full learning rate at this share of the budget."""
    if share < warm_up:
        return max(share / warm_up, 0.02)
    return max(1.0 - share, 0.0) / (1.0 - warm_up)


def _optimizer(model: MultiTaskModel, encoder_rate: float, head_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with the heads' rate for what starts from nothing, and no decay of biases and norms."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            new = name.startswith("heads.") or name.endswith("entity_embeddings.entity_embeddings.weight")
            rate = head_rate if new else encoder_rate
            decay = weight_decay if parameter.ndim > 1 and "embeddings" not in name else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "full_rate": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        fused=True,
    )


class Trainer:
    """Draws a task, takes one step on one of its batches, and so on until the time is spent."""

    def __init__(
        self,
        model: MultiTaskModel,
        sources: Mapping[str, Batches],
        shares: Mapping[Any, float],
        pad_id: int,
        config: LoopConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        group: WorkerGroup | None = None,
        weights: Mapping[str, Tensor] | None = None,
        vector_losses: Mapping[str, VectorLoss] | None = None,
    ) -> None:
        """`shares`: the part of all steps that each task gets; `weights`: those of its labels (`loss_of`);
        `vector_losses`: what the heads learn that have none.
        """
        self.group = group or WorkerGroup()
        self.model = model.to(self.group.device)
        self.config = config
        self.progress = Progress()
        self._sources = sources
        self._names = list(sources)
        total = sum(shares[name] for name in self._names)
        self._shares = [shares[name] / total for name in self._names]
        self._pad_id = pad_id
        self._weights = {name: item.to(self.group.device) for name, item in (weights or {}).items()}
        self._vector_losses = vector_losses or {}
        self._clock = clock
        self._rng = np.random.default_rng(config.seed)
        self._optimizer = _optimizer(model, config.encoder_rate, config.head_rate, config.weight_decay)
        # Dropout differs between processes, which see different examples anyhow.
        torch.manual_seed(config.seed + 1_000_003 * self.group.rank)

    @property
    def share(self) -> float:
        """The part of the budget that is spent."""
        if self.config.steps is not None:
            return self.progress.step / self.config.steps
        return self.progress.elapsed / cast("float", self.config.seconds)

    def run(self, checkpoint: Path | None = None, watch: Callable[[], None] | None = None) -> None:
        """Trains until the budget is spent; `watch` is called after every step, within the budget."""
        progress = self.progress
        begun = self._clock() - progress.elapsed
        saved = progress.elapsed
        while self.share < 1:
            self.step()
            progress.elapsed = self._clock() - begun
            if watch is not None:
                watch()
            due = progress.elapsed - saved >= self.config.checkpoint_every
            if checkpoint is not None and self.group.agree(due):
                self.save(checkpoint)
                saved = progress.elapsed
        if checkpoint is not None:
            self.save(checkpoint)

    def start(self) -> None:
        """Prepares the heads of a new run; a resumed one has them in its checkpoint."""
        for name, spec in self.model.specs.items():
            if spec.multi_label and spec.feature == "pair" and not spec.joint:
                inputs = collate(self._sources[name].next(), self._pad_id)
                self.model.start_rare(name, inputs.to(self.group.device))
        self.group.copy_from_leader(item.data for item in self.model.parameters())

    def step(self) -> float:
        """One step on one batch of a random task, for all heads that read it; returns its loss."""
        name = self._names[int(self._rng.choice(len(self._names), p=self._shares))]
        share = self.share
        examples = self._sources[name].next(share)
        device = self.group.device
        inputs = collate(examples, self._pad_id).to(device)
        for group in self._optimizer.param_groups:
            group["lr"] = group["full_rate"] * rate_share(share, self.config.warm_up)
        self.model.train()
        kind = torch.device(device).type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.config.bfloat16):
            states = self.model.encoder(inputs)
            logits = {head: self.model(head, inputs, states) for head in examples[0].heads or (name,)}
        losses = {head: self._loss(head, found, examples) for head, found in logits.items()}
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()
        trained = [item for item in self.model.parameters() if item.grad is not None]
        self.group.average_gradients(trained)
        nn.utils.clip_grad_norm_(trained, self.config.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        progress = self.progress
        progress.step += 1
        for head, found in losses.items():
            value = found.item()
            progress.examples[head] = progress.examples.get(head, 0) + len(examples)
            progress.losses[head] = 0.97 * progress.losses.get(head, value) + 0.03 * value
        return loss.item()

    def _loss(self, head: str, logits: Tensor, examples: Sequence[Example]) -> Tensor:
        told = [example.heads[head] if example.heads else (example.targets, example.known) for example in examples]
        targets, known = collate_targets(told, self.model.specs[head].multi_label)
        device = self.group.device
        targets, known = targets.to(device), None if known is None else known.to(device)
        if head in self._vector_losses:
            return vector_loss_of(self._vector_losses[head], logits, targets)
        return loss_of(logits, targets, known, self._weights.get(head))

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, as tensors and plain values."""
        own = {
            "torch_rng": torch.get_rng_state(),
            "sources": {name: source.state() for name, source in self._sources.items()},
        }
        if self.group.device != "cpu":
            own["cuda_rng"] = torch.cuda.get_rng_state(self.group.device)
        frozen = self._frozen()
        return {
            "model": {name: item for name, item in self.model.state_dict().items() if name not in frozen},
            "optimizer": self._optimizer.state_dict(),
            "words": self._words(),
            **asdict(self.progress),
            "rng": self._rng.bit_generator.state,
            "processes": self.group.gather(own),
        }

    def save(self, file: Path) -> None:
        """Writes the state of all processes; a kill in the middle leaves the previous one whole."""
        state = self.state()
        if self.group.leads:
            partial = file.with_name(file.name + ".partial")
            torch.save(state, partial)
            partial.replace(file)
        self.group.wait()

    def resume(self, file: Path) -> None:
        """Continues where `save` was called; ValueError where that was with another vocabulary."""
        state: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
        if not np.allclose(state["words"], self._words(), rtol=1e-4):
            message = f"{file}: was trained on another vocabulary; remove it to start anew"
            raise ValueError(message)
        self.model.load_state_dict(state["model"], strict=False)
        self._optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**{part.name: state[part.name] for part in fields(Progress)})
        self._rng.bit_generator.state = state["rng"]
        own = state["processes"][self.group.rank]
        torch.set_rng_state(own["torch_rng"])
        if "cuda_rng" in own:
            torch.cuda.set_rng_state(own["cuda_rng"], self.group.device)
        for name, source in self._sources.items():
            source.restore(own["sources"][name])

    def _frozen(self) -> set[str]:
        """What is not in a checkpoint: it comes from the base again."""
        return {name for name, item in self.model.named_parameters() if not item.requires_grad}

    def _words(self) -> list[float]:
        """Tells one vocabulary from another: its size and, where they never change, the sum of its rows."""
        rows = self.model.encoder.embeddings.word_embeddings.weight
        return [float(len(rows)), 0.0 if rows.requires_grad else float(rows.double().sum())]
