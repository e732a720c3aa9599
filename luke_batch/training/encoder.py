"""LUKE's encoder over padded batches, as training runs it, with the parameter names of transformers' LukeModel.

Shapes: B batch, W words (tokens of the text), E entities, L = W + E, H hidden size, N attention heads, D = H / N.

Equal to transformers in exact arithmetic, and cheaper:

* the position of an entity is the mean of the position rows of its span: a difference of prefix sums over the
  position table instead of a (B, E, 30, H) tensor;
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
    """(B, W), int64."""
    token_lengths: Tensor
    """(B,), int64: the words of each row that are no padding."""
    entity_ids: Tensor
    """(B, E), int64."""
    entity_spans: Tensor
    """(B, E, 2), int64: first token and the one past the last."""

    def to(self, device: str) -> EncoderInput:
        """The same on another device."""
        return EncoderInput(*(item.to(device) for item in vars(self).values()))


class LukeEncoder(nn.Module):
    """Words and entities through all layers: (B, W, H) and (B, E, H)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = WordEmbeddings(config)
        self.entity_embeddings = EntityEmbeddings(config)
        self.layers = [EncoderLayer(config) for _ in range(config.num_hidden_layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(self.layers)})

    def forward(self, batch: EncoderInput) -> tuple[Tensor, Tensor]:
        """The last hidden states of words and entities; those of padding mean nothing."""
        words = self.embeddings(batch.token_ids)  # (B, W, H)
        entities = self.entity_embeddings(batch.entity_ids, batch.entity_spans)  # (B, E, H)
        count = words.shape[1]
        present = torch.arange(count, device=words.device) < batch.token_lengths[:, None]  # (B, W)
        mentioned = batch.entity_spans[..., 1] > batch.entity_spans[..., 0]  # (B, E)
        absent = ~torch.cat([present, mentioned], 1)[:, None, None, :]  # (B, 1, 1, L)
        mask = torch.zeros(absent.shape, device=words.device).masked_fill(absent, -1e4)  # (B, 1, 1, L)
        states = torch.cat([words, entities], 1)  # (B, L, H)
        for layer in self.layers:
            states = layer(states, count, mask)  # (B, L, H)
        return states[:, :count], states[:, count:]


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
        """(B, W, H) of (B, W) ids."""
        positions = self.position_embeddings.weight[self.first : self.first + token_ids.shape[1]]  # (W, H)
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
        """(B, E, H) of (B, E) ids and (B, E, 2) token ranges."""
        rows = self.entity_embeddings(entity_ids)  # (B, E, entity_emb_size)
        if hasattr(self, "entity_embedding_dense"):
            rows = self.entity_embedding_dense(rows)  # (B, E, H)
        start = spans[..., 0]  # (B, E)
        end = torch.minimum(spans[..., 1], start + self.longest)  # (B, E)
        sums = functional.pad(self.position_embeddings.weight.float().cumsum(0), (0, 0, 1, 0))  # (positions + 1, H)
        length = (end - start).clamp_min(1).unsqueeze(-1)  # (B, E, 1)
        positions = (functional.embedding(end, sums) - functional.embedding(start, sums)) / length  # (B, E, H)
        return self.LayerNorm(rows + positions + self.token_type_embeddings.weight[0])


class EncoderLayer(nn.Module):
    """Attention and feed-forward over [words | entities]."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": EntityAwareAttention(config), "output": AddAndNorm(config.hidden_size, config)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = AddAndNorm(config.intermediate_size, config)

    def forward(self, states: Tensor, count: int, mask: Tensor) -> Tensor:
        """(B, L, H) of (B, L, H); `count`: how many of the states are words, W."""
        context = self.attention["self"](states[:, :count], states[:, count:], mask)  # (B, L, H)
        states = self.attention["output"](context, states)  # (B, L, H)
        inner = functional.gelu(self.intermediate["dense"](states))  # (B, L, intermediate_size)
        return self.output(inner, states)


class EntityAwareAttention(nn.Module):
    """Self-attention whose query matrix depends on what attends to what (words, entities)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.aware = config.use_entity_aware_attention
        if self.aware:
            self.w2e_query = nn.Linear(hidden, hidden)
            self.e2w_query = nn.Linear(hidden, hidden)
            self.e2e_query = nn.Linear(hidden, hidden)

    def forward(self, words: Tensor, entities: Tensor, mask: Tensor) -> Tensor:
        """(B, L, H) of (B, W, H) and (B, E, H); `mask`, (B, 1, 1, L), is added to the scores."""
        if not self.aware:
            both = _project(torch.cat([words, entities], 1), self.query, self.key, self.value)  # (B, L, 3 H)
            query, key, value = (self._split(part) for part in both.chunk(3, -1))  # each (B, N, L, D)
            return _join(functional.scaled_dot_product_attention(query, key, value, attn_mask=mask))
        count = words.shape[1]
        word_parts = _project(words, self.query, self.w2e_query, self.key, self.value)  # (B, W, 4 H)
        entity_parts = _project(entities, self.e2w_query, self.e2e_query, self.key, self.value)  # (B, E, 4 H)
        parts = torch.cat([word_parts, entity_parts], 1).chunk(4, -1)  # each (B, L, H)
        to_words, to_entities, key, value = map(self._split, parts)  # each (B, N, L, D)
        scores = torch.cat([to_words @ key[:, :, :count].mT, to_entities @ key[:, :, count:].mT], -1)  # (B, N, L, L)
        weights = torch.softmax(scores * key.shape[-1] ** -0.5 + mask, -1)  # (B, N, L, L)
        return _join(weights.to(value.dtype) @ value)

    def _split(self, states: Tensor) -> Tensor:
        """(B, N, L, D) of (B, L, H)."""
        batch, length, width = states.shape
        return states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)


class AddAndNorm(nn.Module):
    """A linear map back to the hidden size, the residual, and a layer norm."""

    def __init__(self, inner: int, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        """(B, L, H) of (B, L, inner) and (B, L, H)."""
        return self.LayerNorm(self.dense(states) + residual)


def _project(states: Tensor, *parts: nn.Linear) -> Tensor:
    """Several projections of the same states as one product, side by side."""
    weight, bias = (torch.cat([getattr(part, name) for part in parts]) for name in ("weight", "bias"))
    return functional.linear(states, weight, bias)


def _join(states: Tensor) -> Tensor:
    """(B, L, H) of (B, N, L, D)."""
    return states.transpose(1, 2).flatten(2)
