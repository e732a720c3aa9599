"""LUKE's self-attention over a packed batch.

Windows of equal shape are neighbours and attend together, without padding and without a mask. With
entity-aware queries one softmax spans two kinds of scores, which no fused kernel takes as they are. GPUs use
one for all windows (`varlen_attention.py`). On CPUs short windows use plain products; long ones attend to
words and to entities apart, each in a fused kernel, and merge the two by their log-sum-exp, as flash
attention merges its blocks (Dao et al. 2022). Products of windows are in float32 on CPUs: those of half
precision that are so small are no faster, and each of their many shapes would have a kernel of its own.
"""

import torch
from torch import Tensor
from torch.nn import functional

from luke_batch.model.engine.packing import Group
from luke_batch.model.engine.placing import PlacedWindows
from luke_batch.model.engine.projections import MappedKeys, Projected, Projections, State
from luke_batch.model.engine.varlen_attention import attend, kernel_for

_SHORT = 128
"""Rows of a window up to which products are at least as fast as the fused kernel."""

# scaled_dot_product_attention's own kernel on CPUs; the public function keeps the log-sum-exp to itself.
_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001


class PackedAttention:
    """The attention of one layer, up to its output projection."""

    def __init__(self, state: State, name: str, heads: int, aware: bool, device: str, dtype: torch.dtype) -> None:
        """`name`: of the module in `state`. `aware`: a query matrix for each direction."""
        size = len(state[f"{name}.key.bias"]) // heads
        self._kernel = kernel_for(device, dtype, size)
        map_keys = device == "cpu" and self._kernel is None
        self._projections = Projections(state, name, heads, aware, device, dtype, map_keys)

    def __call__(self, states: Tensor, batch: PlacedWindows, only_entities: bool) -> Tensor:
        """(asking rows, hidden) contexts of (w + e, hidden) `states`: of all rows, or of entities only."""
        projected = self._projections(states, batch, only_entities)
        if self._kernel is not None:
            asking = batch.first_entities if only_entities else batch.first_rows
            return attend(self._kernel, projected, batch, asking).flatten(1)
        context = torch.empty_like(projected.query, memory_format=torch.contiguous_format)
        for group in batch.packed.groups:
            asking = group.entity_numbers if only_entities else group.rows
            if asking.start < asking.stop:
                found = _attend(group, projected, asking).transpose(1, 2)
                context[asking].unflatten(0, (group.windows, -1)).copy_(found)
        return context.flatten(1)


def _attend(group: Group, projected: Projected, asking: slice) -> Tensor:
    """(windows, heads, asking rows of a window, size) contexts of a group, whose asking rows are `asking`."""

    def of_windows(rows: Tensor) -> Tensor:
        parts = rows.unflatten(0, (group.windows, -1)).transpose(1, 2)
        return parts.to(_dtype(rows), memory_format=torch.contiguous_format)

    query = of_windows(projected.query[asking])
    keys, values = (of_windows(part) for part in projected.keys_values[group.rows].unbind(1))
    on_cpu = query.device.type == "cpu"
    short = group.words + group.entities <= _SHORT
    if projected.entity_query is None or not group.entities:
        if short and on_cpu:
            return torch.softmax(query @ keys.mT, 3) @ values
        return functional.scaled_dot_product_attention(query, keys, values, scale=1.0)
    word_keys, entity_keys = keys.split([group.words, group.entities], 2)
    mapped = projected.mapped_keys
    entity_query = of_windows(projected.entity_query[asking if mapped is None else group.entity_numbers])
    if short or not on_cpu:
        to_entities = _entity_scores(group, mapped, entity_query, entity_keys)
        return torch.softmax(torch.cat([query @ word_keys.mT, to_entities], 3), 3) @ values
    word_values, entity_values = values.split([group.words, group.entities], 2)
    of_words = _fused(query, word_keys, word_values, scale=1.0)
    if mapped is None:
        return _merged(of_words, _fused(entity_query, entity_keys, entity_values, scale=1.0))
    scores = _entity_scores(group, mapped, entity_query, entity_keys)
    return _merged(of_words, (torch.softmax(scores, 3) @ entity_values, torch.logsumexp(scores, 3)))


def _entity_scores(group: Group, mapped: MappedKeys | None, query: Tensor, keys: Tensor) -> Tensor:
    """(windows, heads, asking rows of a window, entities of a window)."""
    scores = query @ keys.mT
    return scores if mapped is None else torch.cat([mapped.scores(group), scores], 2)


def _dtype(rows: Tensor) -> torch.dtype:
    return torch.float32 if rows.device.type == "cpu" else rows.dtype


def _merged(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Attention over the keys of both, of which each comes as (context, log-sum-exp of the scores)."""
    (context, total), (other_context, other_total) = one, other
    share = torch.sigmoid(total - other_total).unsqueeze(3).to(context.dtype)
    return torch.lerp(other_context, context, share)
