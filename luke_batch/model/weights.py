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

from luke_batch.errors import CheckpointError
from luke_batch.model.checkpoint import Checkpoint
from luke_batch.model.head_facts import FEATURES
from luke_batch.model.parameters import ENTITY_AWARE, IGNORED, Shapes, encoder_shapes, entity_aware

SCALE = ".scale"  # of an int8 tensor: float32, one factor for each row
PREFIX = "luke."  # before the encoder's parameters, where the file was written by a class with a head


def encoder_state(checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Every parameter of the encoder (no pooler) by its LukeModel name, in `dtype`, on the CPU.

    Raises CheckpointError that lists missing and unexpected parameters, and those of another shape.
    """
    in_file = _encoder_names(checkpoint)
    shapes = encoder_shapes(checkpoint)
    _check(checkpoint, in_file, shapes)
    return _read(checkpoint, {name: in_file[name] for name in shapes}, dtype)


def head_state(
    checkpoint: Checkpoint, head: str, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor | None]:
    """(labels, features x hidden) weight and (labels,) bias of `ner`, `types` or `relations`.

    None where the head has no bias, as relations never have. Raises CheckpointError where the bias is missing
    or does not fit; the weight's shape was checked with the checkpoint's facts.
    """
    labels = len(checkpoint.require(head).labels)
    prefix = head if checkpoint.multi_head else "classifier"
    names = {"weight": f"{prefix}.weight"}
    if head != "relations":
        names["bias"] = f"{prefix}.bias"
        _check(checkpoint, {names["bias"]: names["bias"]}, {names["bias"]: (labels,)})
    tensors = _read(checkpoint, names, dtype)
    return tensors["weight"], tensors.get("bias")


def _encoder_names(checkpoint: Checkpoint) -> dict[str, str]:
    """LukeModel name -> name in the file, without what is safely ignored."""
    names = {name for name in checkpoint.tensors if not name.endswith(SCALE)}
    prefixed = any(name.startswith(PREFIX) for name in names)
    if checkpoint.multi_head:
        names -= {f"{head}.{part}" for head in FEATURES for part in ("weight", "bias")}
    found: dict[str, str] = {}
    for name in sorted(names):
        plain = name.removeprefix(PREFIX) if prefixed else name
        ignored = IGNORED.fullmatch(plain) or (not entity_aware(checkpoint) and ENTITY_AWARE.fullmatch(plain))
        if not ignored:
            found[plain] = name
    return found


def _check(checkpoint: Checkpoint, in_file: dict[str, str], shapes: Shapes) -> None:
    tensors = checkpoint.tensors
    misfits = [
        f"{name} is {tensors[in_file[name]].shape} instead of {shape}"
        for name, shape in shapes.items()
        if in_file.get(name) in tensors and tensors[in_file[name]].shape != shape
    ]
    complaints = {
        "missing": [name for name in shapes if in_file.get(name) not in tensors],
        "unexpected": [name for name in in_file if name not in shapes],
        "of another shape": misfits,
    }
    found = [f"{kind}: {_listed(names)}" for kind, names in complaints.items() if names]
    if found:
        raise CheckpointError(
            f"{checkpoint.path}: its weights do not fit its config.json; {'; '.join(found)}; download or "
            "convert it again"
        )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"


def _read(checkpoint: Checkpoint, names: dict[str, str], dtype: torch.dtype) -> dict[str, Tensor]:
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
                _check_scale(checkpoint, stored_name)
                scales = stored(stored_name + SCALE).to(torch.float32)
                tensor = tensor.to(torch.float32).mul_(scales.unsqueeze(-1))
            state[name] = tensor.to(dtype)
        return state


def _check_scale(checkpoint: Checkpoint, name: str) -> None:
    scale = checkpoint.tensors.get(name + SCALE)
    if scale is None or scale.shape != checkpoint.tensors[name].shape[:1]:
        raise CheckpointError(
            f"{checkpoint.path}: {name} is int8 without the row scales {name + SCALE}; write the model again"
        )
