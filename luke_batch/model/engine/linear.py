"""Affine maps as plain tensors, and their weights laid out once for the CPU's own instructions.

On CPUs torch's float32 products are MKL's, which lays the weight out anew at each call and, on CPUs of other
makers than Intel, leaves half of the vector units idle. oneDNN's kernels take a weight that is laid out
already; torch reaches them by the operators that its compiler emits for frozen weights.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

# torch keeps a kernel of about a megabyte for each number of rows that it has seen, up to a thousand. Batches
# differ, and ask for some twenty each: 32 cost no time, and the memory of an actor does not grow.
for _name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(_name, "32")

_ROWS = 1024
"""Rows that a layout is asked for; any other number runs with it equally fast."""


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """states @ weight.T + bias, as `torch.nn.Linear`; it can be stacked and scaled before it is used."""

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


class PackedLinear:
    """states @ weight.T + bias in `dtype`, as `Linear`, and GELU of it; the weight cannot be cut any more."""

    def __init__(self, linear: Linear, device: str, dtype: torch.dtype, gelu: bool = False) -> None:
        """On `device`; laid out where it is a CPU whose oneDNN takes `dtype`."""
        self._gelu = gelu
        plain = linear.to(device, dtype)
        self._bias = plain.bias
        self._dtype = dtype
        self._packed = device == "cpu" and _packs(dtype)
        self._weight = _packed(plain.weight) if self._packed else plain.weight

    def __call__(self, states: Tensor) -> Tensor:
        """(n, out) of (n, in)."""
        states = states.to(self._dtype)
        if self._packed:
            return _product(states, self._weight, self._bias, self._gelu)
        product = functional.linear(states, self._weight, self._bias)
        return torch.ops.aten.gelu_(product) if self._gelu else product


@cache
def _packs(dtype: torch.dtype) -> bool:
    """Whether this build of torch, on this CPU, has oneDNN's products in `dtype`: they are tried."""
    ones = torch.ones(1, 16, dtype=dtype)
    try:
        products = [_product(ones, _packed(ones), ones[0, :1], gelu) for gelu in (False, True)]
        return all(bool((product == 17).all()) for product in products)  # which GELU leaves as it is
    except (RuntimeError, AttributeError):  # refused for this CPU; a build without oneDNN has no operators
        return False


def _packed(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)  # noqa: SLF001 - it has no public name


def _product(states: Tensor, weight: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    after = ("gelu", [], "none") if gelu else ("none", [], "")
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, *after)  # noqa: SLF001 - as above
