"""The entity head of LukeForMaskedLM: which entity of a vocabulary a [MASK] entity stands for.

As there (Yamada et al. 2020, section 3.2): a dense layer, gelu and layer norm over the entity's last hidden
state, then its products with the rows of the entity embedding, and a bias each. The head and new rows are
learnt on the states of an encoder that stays as it is, which takes seconds where training the whole would
take hours.

What is learnt for an entity is to be added to the row of [MASK]: the encoder reads the rows as inputs, too,
and so gets one that it knows, slightly changed, while the products change by one constant for all entities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LukeConfig
from transformers.models.luke.modeling_luke import EntityPredictionHeadTransform

_EPSILON = 1e-12
"""As the encoder's norms have it."""
_START_NORM = 1.0
"""Length of a row at the start: products of a mention with its own entity are then
about the square root of the width.
"""


@dataclass(frozen=True, slots=True)
class EntityHeadConfig:
    """How the head learns."""

    steps: int = 400
    batch: int = 256
    rate: float = 1e-3
    weight_decay: float = 0.05
    dropout: float = 0.2
    smoothing: float = 0.1
    """Of the labels: keeps the scores of frequent entities apart from certainty."""
    seed: int = 0


class EntityHead(nn.Module):
    """Parameters under the names that transformers gives to those of `entity_predictions`."""

    def __init__(self, width: int, entities: int) -> None:
        super().__init__()
        sizes = LukeConfig(hidden_size=width, entity_emb_size=width, layer_norm_eps=_EPSILON)
        self.transform = EntityPredictionHeadTransform(sizes)
        nn.init.eye_(self.transform.dense.weight)
        nn.init.zeros_(self.transform.dense.bias)
        self.bias = nn.Parameter(torch.zeros(entities))

    def forward(self, states: Tensor, rows: Tensor) -> Tensor:
        """(n, entities) logits of (n, width) states of [MASK] entities over (entities, width) rows."""
        return self.transform(states) @ rows.mT + self.bias


def train(states: Tensor, entities: Tensor, count: int, config: EntityHeadConfig) -> tuple[EntityHead, Tensor]:
    """The head, and the rows of the entities.

    Args:
        states: (n, width) float32, last hidden states of mentions.
        entities: (n,) int64, the entity of each, from 0; every entity occurs.
        count: how many entities there are.
        config: how to learn.

    Returns:
        The head in eval mode, and (count, width) float32, less the row of [MASK].
    """
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    head = EntityHead(states.shape[1], count)
    with torch.no_grad():
        means = torch.zeros(count, states.shape[1]).index_add_(0, entities, head.transform(states))
        added = nn.Parameter(_START_NORM * functional.normalize(means, dim=-1))
    optimizer = torch.optim.AdamW([*head.parameters(), added], lr=config.rate, weight_decay=config.weight_decay)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.rate * (1 - step / config.steps)
        drawn = torch.randint(len(states), (config.batch,), generator=generator)
        seen = functional.dropout(states[drawn], config.dropout)
        loss = functional.cross_entropy(head(seen, added), entities[drawn], label_smoothing=config.smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.eval(), added.detach()
