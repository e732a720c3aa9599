"""Affine maps as plain tensors, which can be stacked, cut and scaled before they are used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """states @ weight.T + bias, as `torch.nn.Linear`."""

    weight: Tensor
    """(out, in)"""
    bias: Tensor
    """(out,)"""

    @classmethod
    def read(cls, state: Mapping[str, Tensor], name: str) -> Self:
        """The parameters of the module `name`."""
        return cls(state[f"{name}.weight"], state[f"{name}.bias"])

    @classmethod
    def stacked(cls, parts: Sequence["Linear"]) -> Self:
        """The outputs of several maps of the same input side by side."""
        return cls(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))

    def __call__(self, states: Tensor) -> Tensor:
        """(n, out) of (n, in), computed in the dtype of the weight."""
        return functional.linear(states.to(self.weight.dtype), self.weight, self.bias)

    def scaled(self, factor: float) -> "Linear":
        """`factor` times the map."""
        return Linear(self.weight * factor, self.bias * factor)

    def to(self, device: str, dtype: torch.dtype) -> "Linear":
        """The same map on `device` in `dtype`; itself where it is there already."""
        return Linear(self.weight.to(device, dtype), self.bias.to(device, dtype))


@dataclass(frozen=True, slots=True, eq=False)
class LayerNorm:
    """`torch.nn.LayerNorm` over the last dimension, in float32."""

    weight: Tensor
    bias: Tensor
    epsilon: float

    @classmethod
    def read(cls, state: Mapping[str, Tensor], name: str, epsilon: float, device: str) -> Self:
        """The parameters of the module `name`, on `device`."""
        return cls(state[f"{name}.weight"].to(device), state[f"{name}.bias"].to(device), epsilon)

    def __call__(self, states: Tensor) -> Tensor:
        """Of the same shape as `states`."""
        return functional.layer_norm(states, self.weight.shape, self.weight, self.bias, self.epsilon)
