"""LUKE's self-attention over a packed batch.

Words have the projections q_w2w, q_w2e and [k | v], entities q_e2w, q_e2e and [k | v]; the scale of the
scores lies in the query weights. Queries that nothing reads are left out. Windows of equal shape are
neighbours and attend together, without padding and without a mask.

With entity-aware queries one softmax spans two kinds of scores, which no fused kernel takes as they are. GPUs
use one for all windows (`varlen_attention.py`). On CPUs short windows use plain products; long ones attend to
words and to entities apart, each in a fused kernel, and merge the two by their log-sum-exp, as flash
attention merges its blocks (Dao et al. 2022). All this is in float32 on CPUs: products of half precision that
are so small are no faster, and each of their many shapes would have a kernel of its own.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from luke_batch.model.linear import Linear
from luke_batch.model.packed_linear import PackedLinear
from luke_batch.model.packing import Group, PackedWindows
from luke_batch.model.placing import PlacedWindows
from luke_batch.model.varlen_attention import Side, attend, kernel_for

State = Mapping[str, Tensor]

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


class _Projections:
    """The maps of words, or of entities, to queries, keys and values."""

    def __init__(
        self, state: State, name: str, queries: Sequence[str], scale: float, device: str, dtype: torch.dtype
    ) -> None:
        """`name`: of the module in `state`. `queries`: the one that looks at words, and the other if any."""

        def packed(linear: Linear) -> PackedLinear:
            return PackedLinear(linear, device, dtype)

        self._dtype = torch.float32 if device == "cpu" else dtype
        self._queries = [packed(Linear.read(state, f"{name}.{query}").scaled(scale)) for query in queries]
        parts = [Linear.read(state, f"{name}.{part}") for part in ("key", "value")]
        self._key_value = packed(Linear.stacked(parts))

    def __call__(self, states: Tensor, heads: int, asking: bool, aware: bool) -> Side:
        """Of (n, hidden) `states`; the queries where they are `asking`, and both where `aware`."""
        keys, values = self._key_value(states).to(self._dtype).unflatten(1, (2, heads, -1)).unbind(1)
        wanted = self._queries[: 1 + aware] if asking else []
        queries = [query(states).to(self._dtype).unflatten(1, (heads, -1)) for query in wanted]
        query, entity_query, *_ = (*queries, None, None)
        return Side(query, entity_query, keys, values)


class PackedAttention:
    """The attention of one layer, up to its output projection."""

    def __init__(
        self, state: State, name: str, heads: int, aware: bool, device: str, dtype: torch.dtype
    ) -> None:
        """`name`: of the module in `state`. `aware`: a query matrix for each direction."""
        self._heads = heads
        self._aware = aware
        self._hidden = len(state[f"{name}.key.bias"])
        self._kernel = kernel_for(device, dtype, self._hidden // heads)
        scale = (self._hidden // heads) ** -0.5
        if aware:
            self._words = _Projections(state, name, ("query", "w2e_query"), scale, device, dtype)
            self._entities = _Projections(state, name, ("e2w_query", "e2e_query"), scale, device, dtype)
        else:
            self._words = self._entities = _Projections(state, name, ("query",), scale, device, dtype)

    def __call__(self, states: Tensor, batch: PlacedWindows, asking: Asking) -> Tensor:
        """(asking rows, hidden) contexts of (w + e, hidden) `states`, words before entities."""
        packed = batch.packed
        aware = self._aware and packed.entities > 0
        words = self._words(states[: packed.words], self._heads, asking.words, aware)
        entities = self._entities(states[packed.words :], self._heads, asking.entities, aware)
        if self._kernel is not None:
            return attend(self._kernel, words, entities, batch).flatten(1)
        return self._by_shape(packed, words, entities, asking).flatten(1)

    def _by_shape(self, batch: PackedWindows, words: Side, entities: Side, asking: Asking) -> Tensor:
        """(asking rows, heads, size): windows of one shape after another."""
        asking_words = batch.words if asking.words else 0
        asking_rows = asking_words + (batch.entities if asking.entities else 0)
        context = words.key.new_empty(asking_rows, self._heads, self._hidden // self._heads)
        for group in batch.groups:
            asked = [group.words if asking.words else 0, group.entities if asking.entities else 0]
            if not any(asked):
                continue
            found = self._attend(group, words, entities).transpose(1, 2).split(asked, 1)
            places = (context[group.word_rows], context[asking_words:][group.entity_rows])
            for part, place in zip(found, places, strict=True):
                if part.shape[1]:
                    place.unflatten(0, part.shape[:2]).copy_(part)
        return context

    def _attend(self, group: Group, words: Side, entities: Side) -> Tensor:
        """(windows, heads, asking rows of a window, size) contexts of a group."""

        def of_words(rows: Tensor) -> Tensor:
            return rows[group.word_rows].unflatten(0, (group.windows, -1)).transpose(1, 2)

        def of_entities(rows: Tensor) -> Tensor:
            return rows[group.entity_rows].unflatten(0, (group.windows, -1)).transpose(1, 2)

        def joined(of_word: Tensor | None, of_entity: Tensor | None) -> Tensor:
            parts = [] if of_word is None else [of_words(of_word)]
            if of_entity is not None and group.entities:
                parts.append(of_entities(of_entity))
            return torch.cat(parts, 2) if len(parts) > 1 else parts[0]

        query = joined(words.query, entities.query)
        if not (self._aware and group.entities):
            keys, values = joined(words.key, entities.key), joined(words.value, entities.value)
            return _attention(query, keys, values)
        entity_query = joined(words.entity_query, entities.entity_query)
        word_keys, entity_keys = of_words(words.key), of_entities(entities.key)
        if group.words + group.entities > _SHORT and query.device.type == "cpu":
            return _merged(
                _fused(query, word_keys, of_words(words.value), scale=1.0),
                _fused(entity_query, entity_keys, of_entities(entities.value), scale=1.0),
            )
        scores = torch.cat([query @ word_keys.mT, entity_query @ entity_keys.mT], 3)
        return torch.softmax(scores, 3) @ joined(words.value, entities.value)


def _attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(queries, keys, values, scale=1.0)


def _merged(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Attention over the keys of both, of which each comes as (context, log-sum-exp of the scores)."""
    (context, total), (other_context, other_total) = one, other
    share = torch.sigmoid(total - other_total).unsqueeze(3).to(context.dtype)
    return torch.lerp(other_context, context, share)
