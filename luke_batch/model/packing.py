"""Windows as one packed batch: the words of all, then the entities of all, without padding. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luke_batch.model.windows import Window

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
    first_word: int
    """Row of the first window's first word among all words."""
    first_entity: int
    """Row of the first window's first entity among all entities."""

    @property
    def word_rows(self) -> slice:
        """The group's rows among all words."""
        return slice(self.first_word, self.first_word + self.windows * self.words)

    @property
    def entity_rows(self) -> slice:
        """The group's rows among all entities."""
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
    entity_windows: Indices
    """(e,) the window of each entity."""
    first_words: Indices
    """(b + 1,) the row of each window's first word; the last is w."""
    first_entities: Indices
    """(b + 1,) the row of each window's first entity; the last is e."""
    groups: list[Group]

    @property
    def words(self) -> int:
        """How many rows are words; those of entities follow."""
        return len(self.token_ids)

    @property
    def entities(self) -> int:
        """How many rows are entities."""
        return len(self.entity_ids)

    @property
    def longest(self) -> int:
        """Most words and entities of a window."""
        return int(np.diff(self.first_words + self.first_entities).max())


def pack(windows: Sequence[Window]) -> PackedWindows:
    """Pack `windows`, of which there is at least one, in their order."""
    words = np.array([len(window.token_ids) for window in windows], np.int64)
    entities = np.array([len(window.entity_ids) for window in windows], np.int64)
    first_words = np.concatenate([np.zeros(1, np.int64), np.cumsum(words)])
    first_entities = np.concatenate([np.zeros(1, np.int64), np.cumsum(entities)])
    return PackedWindows(
        token_ids=np.concatenate([window.token_ids for window in windows]).astype(np.int64),
        token_positions=np.arange(first_words[-1]) - np.repeat(first_words[:-1], words),
        entity_ids=np.concatenate([window.entity_ids for window in windows]).astype(np.int64),
        entity_spans=np.concatenate([window.entity_spans for window in windows]).astype(np.int64),
        entity_windows=np.repeat(np.arange(len(windows)), entities),
        first_words=first_words,
        first_entities=first_entities,
        groups=_groups(words, entities, first_words, first_entities),
    )


def _groups(words: Indices, entities: Indices, first_words: Indices, first_entities: Indices) -> list[Group]:
    changes = np.flatnonzero((np.diff(words) != 0) | (np.diff(entities) != 0)) + 1
    starts = np.concatenate([np.zeros(1, np.int64), changes])
    counts = np.diff(np.append(starts, len(words)))
    columns = (counts, words[starts], entities[starts], first_words[starts], first_entities[starts])
    return [Group(*row) for row in np.stack(columns, axis=1).tolist()]
