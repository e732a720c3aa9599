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
"""What a head reads: [h_start; h_end; h_entity] of each span, h_entity of each, or h_head and h_tail. A vector
is h_entity itself: there is nothing to predict, and the encoder alone learns.
"""
States = tuple[Tensor, Tensor]
"""The last hidden states of words and entities, of one pass."""
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
    joint: bool = False
    """A pair's window shows all mentions of the sentence, without markers, and every two of them are a pair."""

    @property
    def is_joint_pair(self) -> bool:
        """Whether the head is a `PairHead`."""
        return self.joint and self.feature == "pair"


class PairHead(nn.Module):
    """All ordered pairs of a window's entities at once: (B, E, H) to (B, E, E, labels).

    One layer over [h_head; h_tail] is the sum of two products, of n rows each and not of n squared; the units behind
    it, which a label needs to tell one head's tail from another's, are few.
    """

    def __init__(self, hidden: int, labels: int, width: int = 256) -> None:
        super().__init__()
        self.head = nn.Linear(hidden, width, bias=False)
        self.tail = nn.Linear(hidden, width)
        self.out = nn.Linear(width, labels)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.constant_(self.out.bias, _RARE_LOGIT)

    def forward(self, entities: Tensor) -> Tensor:
        """Logits of head (second axis) and tail (third)."""
        units = functional.relu(self.head(entities).unsqueeze(2) + self.tail(entities).unsqueeze(1))  # (B, E, E, width)
        return self.out(units)


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
            if spec.is_joint_pair:
                self.heads[name] = PairHead(config.hidden_size, len(spec.labels))
                continue
            # As in transformers, where the classifier of pairs has no bias.
            biased = spec.feature != "pair"
            head = nn.Linear(_WIDTH[spec.feature] * config.hidden_size, len(spec.labels), bias=biased)
            nn.init.normal_(head.weight, std=0.02)
            if biased:
                nn.init.zeros_(head.bias)
            self.heads[name] = head

    def features(self, name: str, batch: EncoderInput, states: States | None = None) -> Tensor:
        """What the head reads, in float32: (batch, entities, width), for marked pairs (batch, width).

        states: of the encoder's pass over the batch, where there was one.
        """
        words, entities = states or self.encoder(batch)
        feature = "entity" if self.specs[name].is_joint_pair else self.specs[name].feature
        return _features(feature, words, entities, batch.entity_spans).float()

    def forward(self, name: str, batch: EncoderInput, states: States | None = None) -> Tensor:
        """Logits in float32: (batch, entities, labels), for marked pairs (batch, labels), for joint ones (batch,
        entities, entities, labels), for vectors themselves (batch, entities, hidden).
        """
        features = self.dropout(self.features(name, batch, states))
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
    """The mean loss of a decision: cross-entropy of a span, or the summed binary ones of a place's labels.

    `weights`, (labels,), count examples of rare labels more.

    Where a pair's annotation knows only some labels, one of which holds, the choice among them is learnt too.
    """
    if known is None:
        if bool((targets == IGNORED).all()):  # a mean of nothing
            return logits.sum() * 0
        return functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), weight=weights, ignore_index=IGNORED)
    told = known.flatten(0, -2).any(-1)
    logits, targets, known = (part.view_as(targets).flatten(0, -2)[told] for part in (logits, targets, known))
    each = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
    loss = (each * known).sum() / max(len(logits), 1)
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
