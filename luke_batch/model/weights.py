"""Weights of a checkpoint as torch tensors under the names of transformers' LukeModel.

Tensors that need no conversion stay memory-mapped: they take no memory of the process's own, actors on one
machine share their pages, and of a 500,000-row entity table only the rows that are looked up are ever read.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from luke_batch.model.checkpoint import Checkpoint
from luke_batch.model.fit import SCALE, Names, encoder_names, head_names


def encoder_state(checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Every parameter of the encoder (no pooler) by its LukeModel name, in `dtype`, on the CPU.

    Raises CheckpointError as `encoder_names` does.
    """
    return _read(checkpoint, encoder_names(checkpoint), dtype)


def head_state(
    checkpoint: Checkpoint, head: str, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor | None]:
    """(labels, features x hidden) weight and (labels,) bias of `ner`, `types` or `relations`.

    None where the head has no bias, as relations never have. Raises CheckpointError as `head_names` does.
    """
    tensors = _read(checkpoint, head_names(checkpoint, head), dtype)
    return tensors["weight"], tensors.get("bias")


def _read(checkpoint: Checkpoint, names: Names, dtype: torch.dtype) -> dict[str, Tensor]:
    stored_names = {*names.values(), *(name + SCALE for name in names.values())}
    paths = {checkpoint.tensors[name].file for name in stored_names if name in checkpoint.tensors}
    with ExitStack() as stack:
        # safetensors has no types for its files.
        files: dict[Path, Any] = {
            path: stack.enter_context(safe_open(path, framework="pt", device="cpu")) for path in paths
        }

        def stored(name: str) -> Tensor:
            return files[checkpoint.tensors[name].file].get_tensor(name)

        state: dict[str, Tensor] = {}
        for name, stored_name in names.items():
            tensor = stored(stored_name)
            if tensor.dtype == torch.int8:
                scales = stored(stored_name + SCALE).to(torch.float32)
                tensor = tensor.to(torch.float32).mul_(scales.unsqueeze(-1))
            state[name] = tensor.to(dtype)
        return state
