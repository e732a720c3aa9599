"""LUKE's entity-aware self-attention over the sequence [words | entities]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Attention whose query matrix depends on what attends to what (words, entities)."""

    def __init__(self, hidden: int, heads: int, aware: bool) -> None:
        """`aware`: a query matrix for each direction; otherwise words and entities attend alike."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.aware = aware
        if self.aware:
            self.w2e_query = nn.Linear(hidden, hidden)
            self.e2w_query = nn.Linear(hidden, hidden)
            self.e2e_query = nn.Linear(hidden, hidden)

    def forward(self, words: Tensor, entities: Tensor, mask: Tensor) -> Tensor:
        """The context of [words | entities]; `mask`, (batch, 1, 1, length), is added to the scores."""
        if not self.aware:
            both = _project(torch.cat([words, entities], 1), self.query, self.key, self.value)
            query, key, value = (self._split(part) for part in both.chunk(3, -1))
            return self._join(functional.scaled_dot_product_attention(query, key, value, attn_mask=mask))
        count = words.shape[1]
        word_parts = _project(words, self.query, self.w2e_query, self.key, self.value)
        entity_parts = _project(entities, self.e2w_query, self.e2e_query, self.key, self.value)
        to_words, to_entities, key, value = torch.cat([word_parts, entity_parts], 1).chunk(4, -1)
        to_words, to_entities, key, value = map(self._split, (to_words, to_entities, key, value))
        scale = key.shape[-1] ** -0.5
        scores = torch.cat([to_words @ key[:, :, :count].mT, to_entities @ key[:, :, count:].mT], -1)
        weights = torch.softmax(scores * scale + mask, -1)
        return self._join(weights.to(value.dtype) @ value)

    def _split(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        return states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

    def _join(self, states: Tensor) -> Tensor:
        return states.transpose(1, 2).flatten(2)


def _project(states: Tensor, *parts: nn.Linear) -> Tensor:
    """Several projections of the same states as one product, side by side."""
    return functional.linear(
        states, torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
    )
