"""Windows as one packed batch: the tokens of a window, its entities, the next window's.

It is built in NumPy, and moved to the device whole: on GPUs all indices go there in one copy from pinned memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from luke_batch.model.inputs.windows import Window

# torch's embedding and gather want int64 indices on every device.
Indices = NDArray[np.int64]
Array = TypeVar("Array", Indices, Tensor)


@dataclass(frozen=True, slots=True)
class ShapeGroup:
    """Neighbouring windows of equal shape: their rows are a dense tensor as they lie."""

    windows: int
    tokens: int
    """Of each window."""
    entities: int
    """Of each window."""
    first: int
    """The row of the first window's first token."""
    first_entity: int
    """The number of the first window's first entity among all entities."""

    @property
    def rows(self) -> slice:
        """The group's rows."""
        return slice(self.first, self.first + self.windows * (self.tokens + self.entities))

    @property
    def entity_numbers(self) -> slice:
        """The group's entities among all entities."""
        return slice(self.first_entity, self.first_entity + self.windows * self.entities)


@dataclass(frozen=True, slots=True, eq=False)
class PackedWindows(Generic[Array]):
    """W windows with T tokens and E entities together, as int64 arrays in NumPy or tensors on a device."""

    token_ids: Array
    """(T,)"""
    token_positions: Array
    """(T,) the place of each token in its window."""
    entity_ids: Tensor
    """(U,) the different ones, always on the CPU, where a large table stays."""
    entity_places: Array
    """(E,) which of `entity_ids` each entity has."""
    starts: Array
    """(E,) the first token of each entity in its window."""
    ends: Array
    """(E,) one past its last token."""
    token_rows: Array
    """(T,) the row of each token."""
    entity_rows: Array
    """(E,) the row of each entity."""
    first_rows: Array
    """(W + 1,) the row of each window's first token; the last is T + E."""
    first_entities: Array
    """(W + 1,) the number of each window's first entity among all; the last is E."""
    longest: int
    """Most tokens and entities of a window."""
    groups: list[ShapeGroup]
    rows: Array | None = None
    """(n,) rows that a head reads; None: all."""

    @property
    def windows(self) -> int:
        """How many there are."""
        return len(self.first_rows) - 1

    @property
    def entities(self) -> int:
        """How many there are."""
        return len(self.entity_places)

    @property
    def first_tokens(self) -> Array:
        """(W + 1,) the number of each window's first token among all; the last is T."""
        return self.first_rows - self.first_entities

    def to(self, device: str, rows: Indices | None = None) -> "PackedWindows[Tensor]":
        """The batch on `device`, of which a head reads `rows`."""
        here = {field.name: getattr(self, field.name) for field in fields(self)} | {"rows": rows}
        arrays = {name: value for name, value in here.items() if isinstance(value, np.ndarray)}
        if device == "cpu":
            tensors = [torch.from_numpy(array) for array in arrays.values()]
        else:
            together = torch.from_numpy(np.concatenate(list(arrays.values()))).pin_memory()
            tensors = together.to(device, non_blocking=True).split([len(array) for array in arrays.values()])
        moved: Any = replace(self, **dict(zip(arrays, tensors, strict=True)))
        return moved


def pack(windows: Sequence[Window]) -> PackedWindows[Indices]:
    """Pack `windows`, of which there is at least one, in their order."""
    tokens = np.array([len(window.token_ids) for window in windows], np.int64)
    entities = np.array([len(window.entity_ids) for window in windows], np.int64)
    first_tokens, first_entities = _firsts(tokens), _firsts(entities)
    first_rows = first_tokens + first_entities
    token_positions, entity_positions = (
        np.arange(firsts[-1]) - np.repeat(firsts[:-1], counts)
        for firsts, counts in ((first_tokens, tokens), (first_entities, entities))
    )
    ids = np.concatenate([window.entity_ids for window in windows]).astype(np.int64)
    entity_ids, entity_places = np.unique(ids, return_inverse=True)
    starts, ends = np.concatenate([window.entity_spans for window in windows]).astype(np.int64).T
    return PackedWindows(
        token_ids=np.concatenate([window.token_ids for window in windows]).astype(np.int64),
        token_positions=token_positions,
        entity_ids=torch.from_numpy(entity_ids),
        entity_places=entity_places,
        starts=starts,
        ends=ends,
        token_rows=np.repeat(first_rows[:-1], tokens) + token_positions,
        entity_rows=np.repeat(first_rows[:-1] + tokens, entities) + entity_positions,
        first_rows=first_rows,
        first_entities=first_entities,
        longest=int((tokens + entities).max()),
        groups=_groups(tokens, entities, first_rows, first_entities),
    )


def _firsts(counts: Indices) -> Indices:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _groups(tokens: Indices, entities: Indices, first_rows: Indices, first_entities: Indices) -> list[ShapeGroup]:
    changes = np.flatnonzero((np.diff(tokens) != 0) | (np.diff(entities) != 0)) + 1
    starts = np.concatenate([np.zeros(1, np.int64), changes])
    counts = np.diff(np.append(starts, len(tokens)))
    columns = (counts, tokens[starts], entities[starts], first_rows[starts], first_entities[starts])
    return [ShapeGroup(*row) for row in np.stack(columns, axis=1).tolist()]
