"""Windows as one padded batch, in the inputs of transformers' LUKE classes. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luke_batch.model.inputs.windows import Window, padded_positions

# torch's embedding and gather want int64 indices on every device.
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class PaddedWindows:
    """b windows padded to t words and e entities; e is 0 where no window has entities."""

    input_ids: Indices
    """(b, t)"""
    attention_mask: Indices
    """(b, t)"""
    entity_ids: Indices
    """(b, e); padding has the id 0, which the mask hides whatever it stands for."""
    entity_attention_mask: Indices
    """(b, e)"""
    entity_position_ids: Indices
    """(b, e, max_mention_length), -1 where a mention is shorter."""
    entity_start_positions: Indices
    """(b, e) first token of each span."""
    entity_end_positions: Indices
    """(b, e) last token of each span, also beyond max_mention_length."""


def pad(windows: Sequence[Window], pad_id: int, max_mention_length: int) -> PaddedWindows:
    """Pad `windows`, of which there is at least one."""
    rows = len(windows)
    words = max(len(window.token_ids) for window in windows)
    entities = max(len(window.entity_ids) for window in windows)
    batch = PaddedWindows(
        input_ids=np.full((rows, words), pad_id, np.int64),
        attention_mask=np.zeros((rows, words), np.int64),
        entity_ids=np.zeros((rows, entities), np.int64),
        entity_attention_mask=np.zeros((rows, entities), np.int64),
        entity_position_ids=np.full((rows, entities, max_mention_length), -1, np.int64),
        entity_start_positions=np.zeros((rows, entities), np.int64),
        entity_end_positions=np.zeros((rows, entities), np.int64),
    )
    for row, window in enumerate(windows):
        length, count = len(window.token_ids), len(window.entity_ids)
        batch.input_ids[row, :length] = window.token_ids
        batch.attention_mask[row, :length] = 1
        batch.entity_ids[row, :count] = window.entity_ids
        batch.entity_attention_mask[row, :count] = 1
        batch.entity_position_ids[row, :count] = padded_positions(window.entity_spans, max_mention_length)
        batch.entity_start_positions[row, :count] = window.entity_spans[:, 0]
        batch.entity_end_positions[row, :count] = window.entity_spans[:, 1] - 1
    return batch
