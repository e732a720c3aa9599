"""Tables of 8-bit rows with a scale each."""

import torch
from torch import Tensor


def quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(n, width) int8 and (n,) float32 scales: row = integers * scale."""
    scale = rows.float().abs().amax(1).clamp_min(1e-8) / 127
    return torch.round(rows.float() / scale[:, None]).to(torch.int8), scale


def dequantise(integers: Tensor, scale: Tensor) -> Tensor:
    """The rows that `quantise` stored."""
    return integers.float() * scale[:, None]
