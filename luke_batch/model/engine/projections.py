"""What the rows of a packed batch look for, and what they show: LUKE's queries, keys and values.

With entity-aware attention (Yamada et al. 2020, section 3.2) words have the queries q_w2w and q_w2e, entities
q_e2w and q_e2e; the scale of the scores lies in the query weights. Where only entities ask, words have no
queries.

Where the windows of a batch have few entities, words do not get their q_w2e on CPUs, a thirteenth of a
layer's products. The score (W x + b) . k of a word x and an entity's key k is x . (W' k) + b . k: the keys go
through the map instead, of which there are so many fewer. The map is held a second time for them, as it came.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from luke_batch.model.engine.linear import Linear
from luke_batch.model.engine.packed_linear import PackedLinear
from luke_batch.model.engine.packing import Group
from luke_batch.model.engine.placing import PlacedWindows

State = Mapping[str, Tensor]

FEW_ENTITIES = 8
"""Entities a window, on average of the batch, up to which their keys go through the map of words' queries. By
the operations it pays up to about 20, but small products run at a fraction of the rate of large ones; 8 and
32 took the same time.
"""


@dataclass(frozen=True, slots=True, eq=False)
class MappedKeys:
    """Keys of entities as the states of words see them."""

    states: Tensor
    """(w + e, hidden)"""
    keys: Tensor
    """(e, heads, hidden)"""
    offsets: Tensor
    """(e, heads)"""

    def scores(self, group: Group) -> Tensor:
        """(windows, heads, words of a window, entities of a window)."""
        states = self.states[group.rows].unflatten(0, (group.windows, -1))[:, : group.words]
        keys = self.keys[group.entity_numbers].unflatten(0, (group.windows, -1)).flatten(1, 2)
        offsets = self.offsets[group.entity_numbers].reshape(group.windows, 1, -1)
        return torch.baddbmm(offsets, states, keys.mT).unflatten(2, (group.entities, -1)).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Projected:
    """The projections of a batch."""

    query: Tensor
    """(asking rows, heads, size); looks at words, and without the next at everything."""
    entity_query: Tensor | None
    """(asking rows, heads, size), looks at entities; (e, heads, size) beside `mapped_keys`."""
    mapped_keys: MappedKeys | None
    """For the words, where these ask without a query of their own."""
    keys_values: Tensor
    """(w + e, 2, heads, size)"""


class Projections:
    """The maps of one layer to queries, keys and values."""

    def __init__(
        self,
        state: State,
        name: str,
        heads: int,
        aware: bool,
        device: str,
        dtype: torch.dtype,
        map_keys: bool,
    ) -> None:
        """As `PackedAttention`. `map_keys`: the attention takes `MappedKeys`."""

        def read(part: str) -> Linear:
            return Linear.read(state, f"{name}.{part}")

        def packed(*parts: Linear) -> PackedLinear:
            return PackedLinear(Linear.stacked(parts), device, dtype)

        self._heads = heads
        self._aware = aware
        self._dtype = dtype
        query, key, value = map(read, ("query", "key", "value"))
        scale = (len(key.bias) // heads) ** -0.5
        self._query = packed(query.scaled(scale))
        self._keys_values = packed(key, value)
        if aware:
            to_entities, *of_entities = (read(part).scaled(scale) for part in ("w2e_query", "e2w_query", "e2e_query"))
            self._to_entities = packed(to_entities)
            self._of_entities = packed(*of_entities)
            self._key_map = to_entities.to(device, dtype) if map_keys else None

    def __call__(self, states: Tensor, batch: PlacedWindows, only_entities: bool) -> Projected:
        """Of (w + e, hidden) `states`. `only_entities`: no word asks."""
        rounded = states.to(self._dtype)
        keys_values = self._split(self._keys_values(rounded), 2)
        if not (self._aware and batch.packed.entities):
            asking = rounded[batch.entity_rows] if only_entities else rounded
            return Projected(self._split(self._query(asking), 1)[:, 0], None, None, keys_values)
        of_entities = self._split(self._of_entities(rounded[batch.entity_rows]), 2)
        query, entity_query = of_entities.unbind(1)
        if only_entities:
            return Projected(query, entity_query, None, keys_values)
        if self._key_map is not None and batch.packed.entities <= FEW_ENTITIES * batch.packed.windows:
            mapped = self._mapped(states, keys_values[batch.entity_rows, 0], self._key_map)
            queries = self._split(self._query(rounded), 1)[:, 0]
            return Projected(queries.index_copy_(0, batch.entity_rows, query), entity_query, mapped, keys_values)
        words = rounded[batch.word_rows]
        queries = torch.empty_like(keys_values).index_copy_(0, batch.entity_rows, of_entities)
        for place, linear in enumerate((self._query, self._to_entities)):
            queries[:, place].index_copy_(0, batch.word_rows, self._split(linear(words), 1)[:, 0])
        return Projected(queries[:, 0], queries[:, 1], None, keys_values)

    def _split(self, rows: Tensor, parts: int) -> Tensor:
        return rows.unflatten(1, (parts, self._heads, -1))

    def _mapped(self, states: Tensor, keys: Tensor, linear: Linear) -> MappedKeys:
        weight, bias = (part.unflatten(0, (self._heads, -1)) for part in (linear.weight, linear.bias))
        mapped = torch.bmm(keys.transpose(0, 1), weight).transpose(0, 1)
        offsets = (keys * bias).sum(2, dtype=torch.float32)
        return MappedKeys(states, mapped.to(torch.float32, memory_format=torch.contiguous_format), offsets)
