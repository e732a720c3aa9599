"""Windows as one packed batch: the words of a window, its entities, the next window's. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luke_batch.model.inputs.windows import Window

# torch's embedding and gather want int64 indices on every device.
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring windows of equal shape: their rows are a dense tensor as they lie."""

    windows: int
    words: int
    """Of each window."""
    entities: int
    """Of each window."""
    first: int
    """The row of the first window's first word."""
    first_entity: int
    """The number of the first window's first entity among all entities."""

    @property
    def rows(self) -> slice:
        """The group's rows."""
        return slice(self.first, self.first + self.windows * (self.words + self.entities))

    @property
    def entity_numbers(self) -> slice:
        """The group's entities among all entities."""
        return slice(self.first_entity, self.first_entity + self.windows * self.entities)


@dataclass(frozen=True, slots=True, eq=False)
class PackedWindows:
    """b windows with w words and e entities together."""

    token_ids: Indices
    """(w,)"""
    token_positions: Indices
    """(w,) the place of each word in its window."""
    entity_ids: Indices
    """(e,)"""
    entity_spans: Indices
    """(e, 2) the token range [start, end) of each entity in its window."""
    word_rows: Indices
    """(w,) the row of each word."""
    entity_rows: Indices
    """(e,) the row of each entity."""
    first_rows: Indices
    """(b + 1,) the row of each window's first word; the last is w + e."""
    first_entities: Indices
    """(b + 1,) the number of each window's first entity among all; the last is e."""
    groups: list[Group]

    @property
    def windows(self) -> int:
        """How many there are."""
        return len(self.first_rows) - 1

    @property
    def entities(self) -> int:
        """How many there are."""
        return len(self.entity_ids)

    @property
    def first_words(self) -> Indices:
        """(b + 1,) the number of each window's first word among all; the last is w."""
        return self.first_rows - self.first_entities

    @property
    def window_rows(self) -> Indices:
        """(e,) the row of the first word of each entity's window."""
        return np.repeat(self.first_rows[:-1], np.diff(self.first_entities))

    @property
    def longest(self) -> int:
        """Most words and entities of a window."""
        return int(np.diff(self.first_rows).max())


def pack(windows: Sequence[Window]) -> PackedWindows:
    """Pack `windows`, of which there is at least one, in their order."""
    words = np.array([len(window.token_ids) for window in windows], np.int64)
    entities = np.array([len(window.entity_ids) for window in windows], np.int64)
    first_words, first_entities = _firsts(words), _firsts(entities)
    first_rows = first_words + first_entities
    token_positions, entity_places = (
        np.arange(firsts[-1]) - np.repeat(firsts[:-1], counts)
        for firsts, counts in ((first_words, words), (first_entities, entities))
    )
    return PackedWindows(
        token_ids=np.concatenate([window.token_ids for window in windows]).astype(np.int64),
        token_positions=token_positions,
        entity_ids=np.concatenate([window.entity_ids for window in windows]).astype(np.int64),
        entity_spans=np.concatenate([window.entity_spans for window in windows]).astype(np.int64),
        word_rows=np.repeat(first_rows[:-1], words) + token_positions,
        entity_rows=np.repeat(first_rows[:-1] + words, entities) + entity_places,
        first_rows=first_rows,
        first_entities=first_entities,
        groups=_groups(words, entities, first_rows, first_entities),
    )


def _firsts(counts: Indices) -> Indices:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _groups(words: Indices, entities: Indices, first_rows: Indices, first_entities: Indices) -> list[Group]:
    changes = np.flatnonzero((np.diff(words) != 0) | (np.diff(entities) != 0)) + 1
    starts = np.concatenate([np.zeros(1, np.int64), changes])
    counts = np.diff(np.append(starts, len(words)))
    columns = (counts, words[starts], entities[starts], first_rows[starts], first_entities[starts])
    return [Group(*row) for row in np.stack(columns, axis=1).tolist()]
