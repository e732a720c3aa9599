"""Several processes that train one model: what they average, tell one another and agree on.

Without torch.distributed, or with one process, every operation returns at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """The place of this process among all."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    """Where it computes, and where tensors must be to be exchanged."""

    @classmethod
    def of_process(cls, device: str) -> WorkerGroup:
        """The group that torch.distributed was initialised with; one process where it was not."""
        if device != "cpu":
            torch.cuda.set_device(device)
        if not (dist.is_available() and dist.is_initialized()):
            return cls(device=device)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, in one all-reduce.

        All processes must have gradients of the same parameters: each step trains the same head everywhere.
        """
        if self.size == 1:
            return
        gradients = [item.grad for item in parameters if item.grad is not None]
        joined = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(joined)
        joined /= self.size
        parts = joined.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def copy_from_leader(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the leader's values."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes, by rank; every process gets the list."""
        if self.size == 1:
            return [value]
        values: list[Value] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def agree(self, decision: bool) -> bool:
        """What the leader decides: clocks differ, and all must do the same."""
        if self.size == 1:
            return decision
        told = torch.tensor([decision], dtype=torch.uint8, device=self.device)
        dist.broadcast(told, 0)
        return bool(told.item())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()
