"""Weights of a checkpoint as torch tensors under the names of transformers' LukeModel.

Tensors that need no conversion stay memory-mapped: they take no memory of the process's own, actors on one
machine share their pages, and of a 500,000-row entity table only the rows that are looked up are ever read.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from luke_batch.base.arrays import FloatArray
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.fit import (
    SCALE,
    Names,
    encoder_names,
    entity_head_names,
    head_names,
    joint_names,
    pooler_names,
    word_head_names,
)

WORD_TABLE = "embeddings.word_embeddings.weight"
ENTITY_TABLE = "entity_embeddings.entity_embeddings.weight"
TABLES = (WORD_TABLE, ENTITY_TABLE)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """An embedding as its file holds it, memory-mapped: what is looked up is converted, and nothing else."""

    stored: Tensor
    """(rows, width), of any dtype."""
    scales: Tensor | None
    """(rows,) float32 factors of an int8 table."""

    def rows(self, ids: Tensor) -> Tensor:
        """(n, width) float32 rows of (n,) `ids` on the table's device."""
        found = self.stored[ids].to(torch.float32)
        return found if self.scales is None else found.mul_(self.scales[ids].unsqueeze(-1))

    def block(self, start: int, end: int) -> Tensor:
        """(end - start, width) float32 rows [start, end); a view of the table where it is that already."""
        found = self.stored[start:end].to(torch.float32)
        return found if self.scales is None else found * self.scales[start:end].unsqueeze(-1)

    def to(self, device: str) -> "Table":
        """The table in the memory of `device`; itself on the CPU."""
        return Table(self.stored.to(device), None if self.scales is None else self.scales.to(device))


def encoder_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Every parameter of the encoder (no pooler) by its LukeModel name, float32, on the CPU.

    Raises CheckpointError as `encoder_names` does.
    """
    return _read(checkpoint, encoder_names(checkpoint))


def layer_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """`encoder_state` in float32 without the two tables, which `encoder_tables` reads."""
    names = encoder_names(checkpoint)
    return _read(checkpoint, {name: names[name] for name in names if name not in TABLES})


def encoder_tables(checkpoint: Checkpoint) -> tuple[Table, Table]:
    """The word and the entity embeddings. Raises CheckpointError as `encoder_names` does."""
    names = encoder_names(checkpoint)
    with _Files() as files:
        words, entities = (_table(checkpoint, files, names[name]) for name in TABLES)
    return words, entities


def head_state(checkpoint: Checkpoint, head: str) -> tuple[Tensor, Tensor | None]:
    """(labels, features x hidden) weight and (labels,) bias of a head's linear layer, float32.

    None where the head has no bias, as relations never have. Raises CheckpointError as `head_names` does.
    """
    tensors = _read(checkpoint, head_names(checkpoint, head))
    return tensors["weight"], tensors.get("bias")


def joint_state(checkpoint: Checkpoint, head: str) -> dict[str, FloatArray]:
    """The parameters of a joint head by the names of `joint_names`, which raises, as arrays for the host."""
    return {name: item.numpy() for name, item in _read(checkpoint, joint_names(checkpoint, head)).items()}


def pooler_state(checkpoint: Checkpoint) -> tuple[Tensor, Tensor]:
    """(hidden, hidden) weight and (hidden,) bias, float32. Raises CheckpointError as `pooler_names` does."""
    tensors = _read(checkpoint, pooler_names(checkpoint))
    return tensors["weight"], tensors["bias"]


def entity_head_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The parameters of the entity head, float32, by the names that `entity_head_names` gives."""
    return _read(checkpoint, entity_head_names(checkpoint))


def word_head_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The parameters of the word head but its decoder, float32, by the names that `word_head_names` gives."""
    names = word_head_names(checkpoint)
    del names["decoder.weight"]
    return _read(checkpoint, names)


def word_decoder(checkpoint: Checkpoint, words: Table) -> Table:
    """The decoder of the word head: the embeddings `words` where it is tied to them, else its own rows.

    Raises CheckpointError as `word_head_names` does.
    """
    name = word_head_names(checkpoint)["decoder.weight"]
    if name == encoder_names(checkpoint)[WORD_TABLE]:
        return words
    with _Files() as files:
        return _table(checkpoint, files, name).to(str(words.stored.device))


def _read(checkpoint: Checkpoint, names: Names) -> dict[str, Tensor]:
    with _Files() as files:
        state: dict[str, Tensor] = {}
        for name, stored_name in names.items():
            table = _table(checkpoint, files, stored_name)
            tensor = table.stored
            if table.scales is not None:
                tensor = tensor.to(torch.float32).mul_(table.scales.unsqueeze(-1))
            state[name] = tensor.to(torch.float32)
        return state


class _Files(ExitStack):
    """Opens each safetensors file once."""

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[Path, Any] = {}  # safetensors has no types for its files

    def tensor(self, checkpoint: Checkpoint, name: str) -> Tensor:
        path = checkpoint.tensors[name].file
        if path not in self._open:
            self._open[path] = self.enter_context(safe_open(path, framework="pt", device="cpu"))
        return self._open[path].get_tensor(name)


def _table(checkpoint: Checkpoint, files: _Files, name: str) -> Table:
    stored = files.tensor(checkpoint, name)
    if stored.dtype != torch.int8:
        return Table(stored, None)
    return Table(stored, files.tensor(checkpoint, name + SCALE).to(torch.float32))


def quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(n, width) int8 and (n,) float32 scales: row = integers * scale."""
    scale = rows.float().abs().amax(1).clamp_min(1e-8) / 127
    return torch.round(rows.float() / scale[:, None]).to(torch.int8), scale


def dequantise(integers: Tensor, scale: Tensor) -> Tensor:
    """The rows that `quantise` stored."""
    return integers.float() * scale[:, None]
