"""Packed batches: every word and entity once, and groups that lie as dense tensors."""

from dataclasses import fields
from unittest.mock import patch

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.model.engine.packing import pack
from luke_batch.model.inputs.windows import Window


def window(words: int, entities: int, number: int) -> Window:
    """Ids that tell the window; the span of an entity is its own."""
    spans = np.stack([np.zeros(entities), np.arange(1, entities + 1)], axis=1).astype(np.int32)
    return Window(np.full(words, number, np.int32), np.full(entities, 100 + number, np.int32), spans)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=12))
def test_rows_lie_where_the_offsets_say(shapes: list[tuple[int, int]]) -> None:
    """The rows of each window are those between its offsets, with positions that begin anew."""
    batch = pack([window(*shape, number) for number, shape in enumerate(shapes)])
    assert (len(batch.token_ids), batch.entities) == tuple(np.sum(shapes, axis=0))
    assert batch.windows == len(shapes)
    assert batch.longest == max(np.sum(shapes, axis=1))
    for number, (words, entities) in enumerate(shapes):
        own_tokens = slice(*batch.first_tokens[number : number + 2].tolist())
        own_entities = slice(*batch.first_entities[number : number + 2].tolist())
        rows = [*batch.token_rows[own_tokens].tolist(), *batch.entity_rows[own_entities].tolist()]
        assert rows == list(range(*batch.first_rows[number : number + 2].tolist()))
        assert batch.token_ids[own_tokens].tolist() == [number] * words
        assert batch.token_positions[own_tokens].tolist() == list(range(words))
        assert batch.entity_ids[batch.entity_places[own_entities]].tolist() == [100 + number] * entities
        assert batch.ends[own_entities].tolist() == list(range(1, entities + 1))


def test_one_copy_brings_everything_to_the_device() -> None:
    """What a GPU gets is what the CPU has; the ids of entities stay where their table is."""
    batch = pack([window(3, 2, 0), window(3, 2, 1), window(4, 0, 2)])
    here = batch.to("cpu", np.array([0, 7]))
    with patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor):
        there = batch.to("cpu:0", np.array([0, 7]))  # by another name, as if it were one
    for field in fields(batch):
        one, other = getattr(here, field.name), getattr(there, field.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    assert here.rows is not None
    assert here.entity_ids is there.entity_ids is batch.entity_ids
    assert there.token_rows.tolist() == batch.token_rows.tolist()


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 1)), min_size=1, max_size=12))
def test_groups_are_runs_of_equal_shapes(shapes: list[tuple[int, int]]) -> None:
    """The groups make up the batch in order, each as long as the shape stays the same."""
    batch = pack([window(*shape, number) for number, shape in enumerate(shapes)])
    listed = [(group.tokens, group.entities) for group in batch.groups for _ in range(group.windows)]
    assert listed == shapes
    for group, following in zip(batch.groups, batch.groups[1:], strict=False):
        assert (group.tokens, group.entities) != (following.tokens, following.entities)
        assert group.rows.stop == following.rows.start
        assert group.entity_numbers.stop == following.entity_numbers.start
