"""A packed batch on its device. On GPUs all indices go there in one copy from pinned memory."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from luke_batch.model.engine.packing import Indices, PackedWindows


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
    word_rows: Tensor
    """(w,)"""
    entity_rows: Tensor
    """(e,)"""
    first_rows: Tensor
    """(b + 1,)"""
    first_entities: Tensor
    """(b + 1,)"""
    rows: Tensor | None
    """(n,) rows that a head reads; None: all."""


def place(packed: PackedWindows, rows: Indices | None, longest: int, device: str) -> PlacedWindows:
    """Move `packed` to `device`. rows: see `PlacedWindows`. longest: tokens of a span that count."""
    entity_ids, places = np.unique(packed.entity_ids, return_inverse=True)
    starts, ends = packed.entity_spans.T
    arrays = [
        packed.token_ids,
        packed.token_positions,
        places,
        starts,
        np.minimum(ends, starts + longest),
        packed.word_rows,
        packed.entity_rows,
        packed.first_rows,
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
        word_rows=moved[5],
        entity_rows=moved[6],
        first_rows=moved[7],
        first_entities=moved[8],
        rows=None if rows is None else moved[9],
    )


def _moved(arrays: list[Indices], device: str) -> list[Tensor]:
    if device == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    together = torch.from_numpy(np.concatenate(arrays)).pin_memory()
    lengths = [len(array) for array in arrays]
    return list(together.to(device, non_blocking=True).split(lengths))
