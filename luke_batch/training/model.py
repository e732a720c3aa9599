"""Several heads over one encoder, and their losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from luke_batch.training.batches import IGNORED
from luke_batch.training.encoder import EncoderConfig, EncoderInput, LukeEncoder

Feature = Literal["span", "entity", "pair", "vector"]
"""What a head reads: [h_start; h_end; h_entity] of each span, h_entity of each, or [h_head; h_tail]. A vector
is h_entity itself: there is nothing to predict, and the encoder alone learns.
"""
VectorLoss = Callable[[Tensor, Tensor], Tensor]
"""The loss of (n, hidden) vectors, float32, with their (n, columns) targets, int64."""

_WIDTH: dict[Feature, int] = {"span": 3, "entity": 1, "pair": 2}
# A relation holds of one pair in some dozens: the head starts from that, not from one in two.
_RARE_LOGIT = -4.0


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """A head: its labels, what it reads, and how it decides."""

    feature: Feature
    labels: tuple[str, ...]
    multi_label: bool = False
    none_label: str | None = None


class MultiTaskModel(nn.Module):
    """The encoder and a linear head for each task."""

    def __init__(
        self,
        config: EncoderConfig,
        heads: dict[str, HeadSpec],
        dropout: float = 0.1,
        *,
        freeze_words: bool = True,
    ) -> None:
        """`freeze_words`: for rows that are stored with 8 bits, few of which occur in the training data."""
        super().__init__()
        self.specs = heads
        self.encoder = LukeEncoder(config)
        self.encoder.embeddings.word_embeddings.weight.requires_grad_(not freeze_words)
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict()
        for name, spec in heads.items():
            if spec.feature == "vector":
                continue
            # As in transformers, where the classifier of pairs has no bias.
            biased = spec.feature != "pair"
            head = nn.Linear(_WIDTH[spec.feature] * config.hidden_size, len(spec.labels), bias=biased)
            nn.init.normal_(head.weight, std=0.02)
            if biased:
                nn.init.zeros_(head.bias)
            self.heads[name] = head

    def features(self, name: str, batch: EncoderInput) -> Tensor:
        """What the head reads, in float32: (batch, entities, width), for pairs (batch, width)."""
        words, entities = self.encoder(batch)
        return _features(self.specs[name].feature, words, entities, batch.entity_spans).float()

    def forward(self, name: str, batch: EncoderInput) -> Tensor:
        """Logits in float32: (batch, entities, labels), for pairs (batch, labels), for vectors themselves
        (batch, entities, hidden).
        """
        features = self.dropout(self.features(name, batch))
        if self.specs[name].feature == "vector":
            return features
        # Heads decide by small margins, and are too small for half precision to be any faster.
        with torch.autocast(features.device.type, enabled=False):
            return self.heads[name](features)

    def recompute_layers(self) -> None:
        """Keep no layer's inner states for the backward pass: a third more work for far less memory."""
        for layer in self.encoder.layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)

    def start_rare(self, name: str, batch: EncoderInput) -> None:
        """Let a head without bias begin with every label rare: so it answers to the mean of the features."""
        with torch.inference_mode():
            mean = self.features(name, batch).flatten(0, -2).mean(0)
        with torch.no_grad():
            weight = cast("Tensor", self.heads[name].weight)
            weight += _RARE_LOGIT * mean / mean.square().sum()


def _features(feature: Feature, words: Tensor, entities: Tensor, spans: Tensor) -> Tensor:
    if feature in ("entity", "vector"):
        return entities
    if feature == "pair":
        return entities[:, :2].flatten(1)
    width = words.shape[-1]
    start = words.gather(1, spans[..., :1].expand(-1, -1, width))
    end = words.gather(1, (spans[..., 1:] - 1).clamp_min(0).expand(-1, -1, width))
    return torch.cat([start, end, entities], -1)


def loss_of(logits: Tensor, targets: Tensor, known: Tensor | None, weights: Tensor | None = None) -> Tensor:
    """The mean loss of a decision: cross-entropy of a span, or the summed binary ones of a pair's labels.

    `weights`, (labels,), count examples of rare labels more.

    Where a pair's annotation knows only some labels, one of which holds, the choice among them is learnt too.
    """
    if known is None:
        return functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), weight=weights, ignore_index=IGNORED)
    logits = logits.view_as(targets)  # the windows of types have one entity
    each = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
    loss = (each * known).sum(-1).mean()
    partly = ~known.all(-1) & (targets.sum(-1) == 1)
    if partly.any():
        among = logits[partly].masked_fill(~known[partly], -torch.inf)
        choice = functional.cross_entropy(among, targets[partly].argmax(-1), reduction="sum")
        loss = loss + choice / len(logits)
    return loss


def vector_loss_of(loss: VectorLoss, vectors: Tensor, targets: Tensor) -> Tensor:
    """The loss of (batch, entities, hidden) vectors with (batch, entities, columns) targets, padding left out."""
    present = targets[..., 0] != IGNORED
    return loss(vectors[present], targets[present])
