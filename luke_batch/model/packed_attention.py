"""LUKE's self-attention over a packed batch.

The projections of a layer are one product for the words, [q_w2w | k | v | q_w2e], and one for the entities,
[q_e2w | k | v | q_e2e]; the scale of the scores lies in the query weights. Blocks that nothing reads are left
out, for a range of a weight's rows is no copy. Windows of equal shape are neighbours and attend together,
without padding and without a mask.

Where words have few entities to look at, q_w2e is not computed: (W x + b) · k = x · (Wᵀ k) + b · k costs one
product for each entity instead of one for each word. The sums are the same, in another order.

With entity-aware queries one softmax spans two kinds of scores, which no fused kernel takes. Short windows use
plain products. Long ones (on CPUs) take the context of the words from the fused kernel and merge it with that
of the entities by their log-sum-exp, as blocks of flash attention are merged (Dao et al. 2022).
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
"""Rows of a window up to which products are faster than the fused kernel."""


class Asking(StrEnum):
    """Which rows' contexts are wanted; all rows are looked at."""

    ALL = "all"
    WORDS = "words"
    ENTITIES = "entities"


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """The projections of all words, or of all entities."""

    blocks: Tensor
    """(rows, blocks, heads, size): the blocks from `first` on."""
    first: int

    def of(self, block: int, group: Group, side: int) -> Tensor:
        """(windows, heads, rows of each, size), a view; `side`: 0 words, 1 entities."""
        rows = self.blocks[group.rows[side], block - self.first]
        return rows.unflatten(0, (group.windows, -1)).transpose(1, 2)


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
        words_ask, entities_ask = asking is not Asking.ENTITIES, asking is not Asking.WORDS
        states = states.to(self._words.weight.dtype)
        word_states, entity_states = states[: batch.words], states[batch.words :]
        aware = self._aware and batch.entities > 0
        few = aware and words_ask and self._few_entities(batch)
        words = self._project(self._words, word_states, words_ask, aware and not few)
        entities = self._project(self._entities, entity_states, entities_ask, aware)
        reach = self._reach(entities) if few else None
        asking_words = batch.words if words_ask else 0
        asking_entities = batch.entities if entities_ask else 0
        context = words.blocks.new_empty(asking_words + asking_entities, *words.blocks.shape[2:])
        for group in batch.groups:
            asked = [group.words if words_ask else 0, group.entities if entities_ask else 0]
            if not any(asked):
                continue
            reached = _reached(word_states, reach, group) if reach and group.entities else None
            found = self._attend(group, words, entities, asked, reached).transpose(1, 2).split(asked, 1)
            for part, offset, rows in zip(found, (0, asking_words), group.rows, strict=True):
                if part.shape[1]:
                    context[offset:][rows].unflatten(0, part.shape[:2]).copy_(part)
        return context.flatten(1)

    def _project(self, projection: Linear, states: Tensor, asking: bool, entity_query: bool) -> _Side:
        first = _QUERY if asking else _KEY
        end = _END if asking and entity_query else _ENTITY_QUERY
        blocks = projection.outputs(first * self._hidden, end * self._hidden)(states)
        return _Side(blocks.unflatten(1, (end - first, self._heads, -1)), first)

    def _few_entities(self, batch: PackedWindows) -> bool:
        """Whether `_reach` and `_reached` multiply less than q_w2e would."""
        pairs = sum(group.windows * group.words * group.entities for group in batch.groups)
        return batch.entities * self._hidden + pairs * self._heads < batch.words * self._hidden

    def _reach(self, entities: _Side) -> tuple[Tensor, Tensor]:
        """(heads, e, hidden) Wᵀ k and (heads, e) b · k of all entities, for W and b of q_w2e."""
        query = self._words.outputs(_ENTITY_QUERY * self._hidden, _END * self._hidden)
        keys = entities.blocks[:, _KEY - entities.first].transpose(0, 1)
        bias = query.bias.view(self._heads, -1, 1)
        return keys @ query.weight.view(self._heads, -1, self._hidden), (keys @ bias).squeeze(2)

    def _attend(
        self, group: Group, words: _Side, entities: _Side, asked: list[int], reached: Tensor | None
    ) -> Tensor:
        """(windows, heads, rows that ask, size) contexts of a group; `reached` as from `_reached`."""
        from_words, from_entities = (rows > 0 for rows in asked)
        if not group.entities:
            blocks = (words.of(block, group, 0) for block in (_QUERY, _KEY, _VALUE))
            return functional.scaled_dot_product_attention(*blocks, scale=1.0)

        def joined(block: int, with_words: bool = True, with_entities: bool = True) -> Tensor:
            asking = ((words, with_words), (entities, with_entities))
            return torch.cat(
                [part.of(block, group, side) for side, (part, wanted) in enumerate(asking) if wanted], 2
            )

        queries = joined(_QUERY, from_words, from_entities)
        if not self._aware:
            return functional.scaled_dot_product_attention(queries, joined(_KEY), joined(_VALUE), scale=1.0)
        entity_keys = entities.of(_KEY, group, 1)
        if reached is None:
            scores = joined(_ENTITY_QUERY, from_words, from_entities) @ entity_keys.mT
        else:
            scores = reached
            if from_entities:
                own = entities.of(_ENTITY_QUERY, group, 1) @ entity_keys.mT
                scores = torch.cat([reached, own], 2)
        if group.words + group.entities <= _SHORT or queries.device.type != "cpu":
            scores = torch.cat([queries @ words.of(_KEY, group, 0).mT, scores], 3)
            return torch.softmax(scores, 3) @ joined(_VALUE)
        return _merged(
            queries,
            words.of(_KEY, group, 0),
            words.of(_VALUE, group, 0),
            scores,
            entities.of(_VALUE, group, 1),
        )


def _reached(states: Tensor, reach: tuple[Tensor, Tensor], group: Group) -> Tensor:
    """(windows, heads, words, entities) scores of words at entities, from (w, hidden) states of all words."""
    shape = (group.windows, group.entities)
    keys, bias = (part[:, group.rows[1]].unflatten(1, shape).transpose(0, 1) for part in reach)
    own = states[group.rows[0]].unflatten(0, (group.windows, group.words))
    scores = own @ keys.flatten(1, 2).mT
    return scores.unflatten(2, (-1, group.entities)).transpose(1, 2) + bias.unsqueeze(2)


def _merged(queries: Tensor, keys: Tensor, values: Tensor, scores: Tensor, other_values: Tensor) -> Tensor:
    """Attention over `keys` together with other ones whose scores are known."""
    context, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        queries, keys, values, scale=1.0
    )
    other = torch.softmax(scores, 3) @ other_values
    share = torch.sigmoid(total - scores.logsumexp(3)).unsqueeze(3)
    return torch.lerp(other, context, share.to(context.dtype))
