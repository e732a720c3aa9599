"""A packed batch on its device. On GPUs all indices go there in one copy from pinned memory."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from luke_batch.model.packing import Indices, PackedWindows


@dataclass(frozen=True, slots=True, eq=False)
class PlacedWindows:
    """What the encoder reads of `packed`: int64 tensors on the device."""

    packed: PackedWindows
    token_ids: Tensor
    """(w,)"""
    token_positions: Tensor
    """(w,)"""
    entity_ids: Indices
    """(u,) the different ones among the batch's, on the CPU, where a large table stays."""
    entity_places: Tensor
    """(e,) which of `entity_ids` each entity has."""
    starts: Tensor
    """(e,) first token of each span."""
    ends: Tensor
    """(e,) one past the last token that counts for the position."""
    rows: Tensor | None
    """(n,) rows that a head reads; None: all."""
    order: Tensor
    """(w + e,) all rows in the order of their windows: the words of one, its entities, the next one's."""
    first_words: Tensor
    """(b + 1,)"""
    first_entities: Tensor
    """(b + 1,)"""


def place(packed: PackedWindows, rows: Indices | None, longest: int, device: str) -> PlacedWindows:
    """Move `packed` to `device`. rows: see `PlacedWindows`. longest: tokens of a span that count."""
    entity_ids, places = np.unique(packed.entity_ids, return_inverse=True)
    starts, ends = packed.entity_spans.T
    of_words = np.repeat(np.arange(len(packed.first_words) - 1), np.diff(packed.first_words))
    arrays = [
        packed.token_ids,
        packed.token_positions,
        places,
        starts,
        np.minimum(ends, starts + longest),
        np.concatenate([of_words, packed.entity_windows]).argsort(kind="stable"),
        packed.first_words,
        packed.first_entities,
        *([] if rows is None else [rows]),
    ]
    moved = _moved(arrays, device)
    return PlacedWindows(
        packed,
        token_ids=moved[0],
        token_positions=moved[1],
        entity_ids=entity_ids,
        entity_places=moved[2],
        starts=moved[3],
        ends=moved[4],
        rows=None if rows is None else moved[8],
        order=moved[5],
        first_words=moved[6],
        first_entities=moved[7],
    )


def _moved(arrays: list[Indices], device: str) -> list[Tensor]:
    if device == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    together = torch.from_numpy(np.concatenate(arrays)).pin_memory()
    lengths = [len(array) for array in arrays]
    return list(together.to(device, non_blocking=True).split(lengths))
