"""LUKE's self-attention over a packed batch.

The projections of a layer are one product for the words, [q_w2w | k | v | q_w2e], and one for the entities,
[q_e2w | k | v | q_e2e]; the scale of the scores lies in the query weights. Blocks that nothing reads are left
out, for a range of a weight's rows is no copy. Windows of equal shape are neighbours and attend together,
without padding and without a mask.

With entity-aware queries one softmax spans two kinds of scores, which no fused kernel takes. Short windows
use plain products. Long ones (on CPUs) attend to words and to entities apart, each in a fused kernel, and
merge the two by their log-sum-exp, as flash attention merges its blocks (Dao et al. 2022).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from luke_batch.model.linear import Linear
from luke_batch.model.packing import Group, PackedWindows

_QUERY, _KEY, _VALUE, _ENTITY_QUERY, _END = range(5)
"""Blocks of a projection. `_QUERY` looks at words, and without entity-aware attention at everything."""

_SHORT = 128
"""Rows of a window up to which products are at least as fast as the fused kernel."""

# scaled_dot_product_attention's own kernel on CPUs; the public function keeps the log-sum-exp to itself.
_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001


class Asking(StrEnum):
    """Which rows' contexts are wanted; all rows are looked at."""

    ALL = "all"
    WORDS = "words"
    ENTITIES = "entities"

    @property
    def words(self) -> bool:
        """Those of words are."""
        return self is not Asking.ENTITIES

    @property
    def entities(self) -> bool:
        """Those of entities are."""
        return self is not Asking.WORDS


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """The projections of all words, or of all entities."""

    blocks: Tensor
    """(rows, blocks, heads, size): the blocks from `first` on."""
    first: int

    def of(self, block: int, rows: slice, windows: int) -> Tensor:
        """(windows, heads, rows of each window, size) of the rows of a group; a view."""
        return self.blocks[rows, block - self.first].unflatten(0, (windows, -1)).transpose(1, 2)


class PackedAttention:
    """The attention of one layer, up to its output projection."""

    def __init__(
        self,
        state: Mapping[str, Tensor],
        name: str,
        heads: int,
        aware: bool,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        """`name`: of the module in `state`. `aware`: a query matrix for each direction."""
        self._heads = heads
        self._aware = aware
        key, value = Linear.read(state, f"{name}.key"), Linear.read(state, f"{name}.value")
        self._hidden = key.weight.shape[0]
        scale = (self._hidden // heads) ** -0.5

        def stacked(*queries: str) -> Linear:
            first, *rest = (Linear.read(state, f"{name}.{query}").scaled(scale) for query in queries)
            return Linear.stacked([first, key, value, *rest]).to(device, dtype)

        if aware:
            self._words = stacked("query", "w2e_query")
            self._entities = stacked("e2w_query", "e2e_query")
        else:
            self._words = self._entities = stacked("query")

    def __call__(self, states: Tensor, batch: PackedWindows, asking: Asking) -> Tensor:
        """(asking rows, hidden) contexts of (w + e, hidden) `states`, words before entities."""
        aware = self._aware and batch.entities > 0
        words = self._project(self._words, states[: batch.words], asking.words, aware)
        entities = self._project(self._entities, states[batch.words :], asking.entities, aware)
        asking_words = batch.words if asking.words else 0
        asking_rows = asking_words + (batch.entities if asking.entities else 0)
        context = words.blocks.new_empty(asking_rows, self._heads, self._hidden // self._heads)
        for group in batch.groups:
            asked = [group.words if asking.words else 0, group.entities if asking.entities else 0]
            if not any(asked):
                continue
            found = self._attend(group, words, entities, asking).transpose(1, 2).split(asked, 1)
            places = (context[group.word_rows], context[asking_words:][group.entity_rows])
            for part, place in zip(found, places, strict=True):
                if part.shape[1]:
                    place.unflatten(0, part.shape[:2]).copy_(part)
        return context.flatten(1)

    def _project(self, projection: Linear, states: Tensor, asking: bool, aware: bool) -> _Side:
        first = _QUERY if asking else _KEY
        end = _END if asking and aware else _ENTITY_QUERY
        blocks = projection.outputs(first * self._hidden, end * self._hidden)(states)
        return _Side(blocks.unflatten(1, (end - first, self._heads, -1)), first)

    def _attend(self, group: Group, words: _Side, entities: _Side, asking: Asking) -> Tensor:
        """(windows, heads, asking rows of a window, size) contexts of a group."""

        def of_words(block: int) -> Tensor:
            return words.of(block, group.word_rows, group.windows)

        def of_entities(block: int) -> Tensor:
            return entities.of(block, group.entity_rows, group.windows)

        def joined(block: int) -> Tensor:
            return torch.cat([of_words(block), of_entities(block)], 2)

        def asked(block: int) -> Tensor:
            if asking is Asking.ALL:
                return joined(block)
            return of_words(block) if asking.words else of_entities(block)

        if not group.entities:
            return _attention(of_words(_QUERY), of_words(_KEY), of_words(_VALUE))
        if not self._aware:
            return _attention(asked(_QUERY), joined(_KEY), joined(_VALUE))
        if group.words + group.entities > _SHORT and words.blocks.device.type == "cpu":
            return _merged(
                _fused(asked(_QUERY), of_words(_KEY), of_words(_VALUE), scale=1.0),
                _fused(asked(_ENTITY_QUERY), of_entities(_KEY), of_entities(_VALUE), scale=1.0),
            )
        to_words = asked(_QUERY) @ of_words(_KEY).mT
        to_entities = asked(_ENTITY_QUERY) @ of_entities(_KEY).mT
        return torch.softmax(torch.cat([to_words, to_entities], 3), 3) @ joined(_VALUE)


def _attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(queries, keys, values, scale=1.0)


def _merged(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Attention over the keys of both, of which each comes as (context, log-sum-exp of the scores)."""
    (context, total), (other_context, other_total) = one, other
    share = torch.sigmoid(total - other_total).unsqueeze(3).to(context.dtype)
    return torch.lerp(other_context, context, share)
