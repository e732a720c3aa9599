"""Attention of windows of any lengths in one call of a kernel for sequences that lie one after another.

Entity-aware attention has two queries for one softmax: here a query is both of them side by side, and a key
is [k | 0] for a word and [0 | k] for an entity, so that one product of twice the size finds the right score.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from luke_batch.model.placing import PlacedWindows

_LARGEST = 256
"""Size of a head that flash attention takes (Dao 2023)."""

Kernel = Callable[..., Any]
"""`torch.nn.attention.varlen.varlen_attn`, or what stands for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The projections of all words, or of all entities: (rows, heads, size) each; queries where these ask."""

    query: Tensor | None
    """Looks at words, and without entity-aware attention at everything."""
    entity_query: Tensor | None
    key: Tensor
    value: Tensor


def kernel_for(device: str, dtype: torch.dtype, size: int) -> Kernel | None:
    """The kernel for heads of `size` in `dtype`; None: there is none, and windows of a shape go together."""
    if device == "cpu" or dtype == torch.float32 or 2 * size > _LARGEST:
        return None
    if torch.cuda.get_device_capability() < (8, 0):
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # before torch 2.10
        return None
    return varlen_attn


def attend(kernel: Kernel, words: Side, entities: Side, batch: PlacedWindows) -> Tensor:
    """(asking rows, heads, size) contexts, words before entities, of the rows that have a query."""
    size = words.key.shape[-1]
    keys, values = (words.key, entities.key), torch.cat([words.value, entities.value])
    if words.entity_query is not None or entities.entity_query is not None:
        keys = (functional.pad(words.key, (0, size)), functional.pad(entities.key, (size, 0)))
        values = functional.pad(values, (0, size))
    queries = [_both(side) for side in (words, entities) if side.query is not None]
    every = batch.first_words + batch.first_entities
    if len(queries) > 1:
        query, asking = torch.cat(queries)[batch.order], every
    else:
        query, asking = queries[0], batch.first_words if words.query is not None else batch.first_entities
    # An upper bound will do for the longest, and costs no waiting for the device.
    bounds = (asking.int(), every.int(), batch.packed.longest, batch.packed.longest)
    context: Tensor = kernel(query, torch.cat(keys)[batch.order], values[batch.order], *bounds, scale=1.0)
    context = context[..., :size]
    return torch.empty_like(context).index_copy_(0, batch.order, context) if len(queries) > 1 else context


def _both(side: Side) -> Tensor:
    assert side.query is not None, "chosen by the caller"
    return side.query if side.entity_query is None else torch.cat([side.query, side.entity_query], -1)
