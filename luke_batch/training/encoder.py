"""LUKE's encoder over padded batches, with the parameter names of transformers' LukeModel.

It trains the embedded model; `transformers_engine` runs checkpoints. Equal to transformers in exact
arithmetic, and cheaper:

* the position of an entity is the mean of the position rows of its span: a difference of prefix sums over the
  position table instead of a (batch, entities, 30, hidden) tensor;
* the projections of a layer are one product for the words and one for the entities;
* attention without entity-aware queries is one fused call over [words | entities]. With them the scores are
  two products, for words and for entities, as no fused call takes two queries for one softmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from luke_batch.base.errors import CheckpointError
from luke_batch.training.attention import SelfAttention


@dataclass(frozen=True)
class EncoderConfig:
    """The part of a LukeConfig that the encoder reads."""

    vocab_size: int
    entity_vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    layer_norm_eps: float
    entity_emb_size: int
    type_vocab_size: int = 1
    pad_token_id: int = 1
    max_mention_length: int = 30
    use_entity_aware_attention: bool = True

    @classmethod
    def from_luke(cls, config: dict[str, Any]) -> EncoderConfig:
        """From the content of a LUKE config.json; CheckpointError for another activation than GELU."""
        activation = config.get("hidden_act", "gelu")
        if activation != "gelu":
            raise CheckpointError(f"config.json has hidden_act {activation!r}; this encoder computes gelu only")
        values = {name: config[name] for name in cls.__dataclass_fields__ if config.get(name) is not None}
        values.setdefault("entity_emb_size", config["hidden_size"])
        return cls(**values)


@dataclass
class EncoderInput:
    """A padded batch. An entity of padding has an empty span; each row has at least one word."""

    token_ids: Tensor
    """(batch, words), int64."""
    token_lengths: Tensor
    """(batch,), int64: the words of each row that are no padding."""
    entity_ids: Tensor
    """(batch, entities), int64."""
    entity_spans: Tensor
    """(batch, entities, 2), int64: first token and the one past the last."""

    def to(self, device: str) -> EncoderInput:
        """The same on another device."""
        return EncoderInput(
            self.token_ids.to(device),
            self.token_lengths.to(device),
            self.entity_ids.to(device),
            self.entity_spans.to(device),
        )


class WordEmbeddings(nn.Module):
    """Words, their positions (counted from pad+1) and the one token type."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.first = config.pad_token_id + 1
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, token_ids: Tensor) -> Tensor:
        """(batch, words, hidden) of (batch, words) ids."""
        positions = self.position_embeddings.weight[self.first : self.first + token_ids.shape[1]]
        return self.LayerNorm(self.word_embeddings(token_ids) + positions + self.token_type_embeddings.weight[0])


class EntityEmbeddings(nn.Module):
    """Entities, the mean position of their tokens and the one token type."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.longest = config.max_mention_length
        width = config.entity_emb_size
        self.entity_embeddings = nn.Embedding(config.entity_vocab_size, width)
        if width != config.hidden_size:
            self.entity_embedding_dense = nn.Linear(width, config.hidden_size, bias=False)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, entity_ids: Tensor, spans: Tensor) -> Tensor:
        """(batch, entities, hidden) of (batch, entities) ids and (batch, entities, 2) token ranges."""
        rows = self.entity_embeddings(entity_ids)
        if hasattr(self, "entity_embedding_dense"):
            rows = self.entity_embedding_dense(rows)
        start = spans[..., 0]
        end = torch.minimum(spans[..., 1], start + self.longest)
        sums = functional.pad(self.position_embeddings.weight.float().cumsum(0), (0, 0, 1, 0))
        length = (end - start).clamp_min(1).unsqueeze(-1)
        positions = (functional.embedding(end, sums) - functional.embedding(start, sums)) / length
        return self.LayerNorm(rows + positions + self.token_type_embeddings.weight[0])


class Projection(nn.Module):
    """A linear map, the residual, and a layer norm."""

    def __init__(self, inner: int, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        """Of the same shape as `residual`."""
        return self.LayerNorm(self.dense(states) + residual)


class Layer(nn.Module):
    """Attention and feed-forward over [words | entities]."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {
                "self": SelfAttention(
                    config.hidden_size, config.num_attention_heads, config.use_entity_aware_attention
                ),
                "output": Projection(config.hidden_size, config),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = Projection(config.intermediate_size, config)

    def forward(self, states: Tensor, count: int, mask: Tensor) -> Tensor:
        """`count`: how many of the states are words."""
        context = self.attention["self"](states[:, :count], states[:, count:], mask)
        states = self.attention["output"](context, states)
        return self.output(functional.gelu(self.intermediate["dense"](states)), states)


class LukeEncoder(nn.Module):
    """Words and entities through all layers: (batch, words, hidden) and (batch, entities, hidden)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = WordEmbeddings(config)
        self.entity_embeddings = EntityEmbeddings(config)
        self.layers = [Layer(config) for _ in range(config.num_hidden_layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(self.layers)})

    def forward(self, batch: EncoderInput) -> tuple[Tensor, Tensor]:
        """The last hidden states of words and entities; those of padding mean nothing."""
        words = self.embeddings(batch.token_ids)
        entities = self.entity_embeddings(batch.entity_ids, batch.entity_spans)
        count = words.shape[1]
        present = torch.arange(count, device=words.device) < batch.token_lengths[:, None]
        mentioned = batch.entity_spans[..., 1] > batch.entity_spans[..., 0]
        absent = ~torch.cat([present, mentioned], 1)[:, None, None, :]
        mask = torch.zeros(absent.shape, device=words.device).masked_fill(absent, -1e4)
        states = torch.cat([words, entities], 1)
        for layer in self.layers:
            states = layer(states, count, mask)
        return states[:, :count], states[:, count:]
