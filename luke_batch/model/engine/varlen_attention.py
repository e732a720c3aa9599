"""Attention of windows of any lengths in one call of a kernel for sequences that lie one after another.

Entity-aware attention has two queries for one softmax: here a query is both of them side by side, and a key
is [k | 0] for a word and [0 | k] for an entity, so that one product of twice the size finds the right score.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from luke_batch.model.engine.placing import PlacedWindows
from luke_batch.model.engine.projections import Projected

_LARGEST = 256
"""Size of a head that flash attention takes (Dao 2023)."""

Kernel = Callable[..., Any]
"""`torch.nn.attention.varlen.varlen_attn`, or what stands for it."""


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


def attend(kernel: Kernel, projected: Projected, batch: PlacedWindows, asking: Tensor) -> Tensor:
    """(asking rows, heads, size) contexts of `batch`; `asking`: (b + 1,) each window's first asking row."""
    query, entity_query = projected.query, projected.entity_query
    keys, values = projected.keys_values.unbind(1)
    size = keys.shape[-1]
    if entity_query is not None:
        query = torch.cat([query, entity_query], -1)
        both = keys.new_zeros(*keys.shape[:-1], 2 * size)
        both[batch.word_rows, :, :size] = keys[batch.word_rows]
        both[batch.entity_rows, :, size:] = keys[batch.entity_rows]
        keys, values = both, functional.pad(values, (0, size))
    # An upper bound will do for the longest, and costs no waiting for the device.
    bounds = (asking.int(), batch.first_rows.int(), batch.packed.longest, batch.packed.longest)
    context: Tensor = kernel(query, keys, values, *bounds, scale=1.0)
    return context[..., :size]
