"""Further entities for a checkpoint: the space that their rows live in, and a copy that has them.

Three things hold the entities of LukeForMaskedLM: the vocabulary, the entity table, by which they enter and
are scored, and the bias of `entity_predictions`. All grow by the same rows; whatever was there keeps its
bytes.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.base.errors import CheckpointError
from luke_batch.model.engine.vocabulary_heads import PredictionHead
from luke_batch.model.files.checkpoint import Checkpoint, resolve
from luke_batch.model.files.fit import PREFIX, SCALE, encoder_names, entity_head_names
from luke_batch.model.files.reading import INDEX, read_object
from luke_batch.model.files.weights import ENTITY_TABLE, encoder_tables, quantise
from luke_batch.model.writing.append_rows import AppendedRows, append_rows
from luke_batch.model.writing.convert import COPIED, TIED
from luke_batch.model.writing.new_folder import new_folder, write_vocabulary

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class EntitySpace:
    """The entity table of a checkpoint with the head that scores it, on the CPU."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises CheckpointError where the weights do not fit."""
        self._table = encoder_tables(checkpoint)[1]
        self._head = PredictionHead.of_entities(checkpoint, self._table, "cpu")

    @property
    def width(self) -> int:
        """Length of a row."""
        return int(self._table.stored.shape[1])

    def rows(self, ids: IntArray) -> FloatArray:
        """(n, width) rows of (n,) entities."""
        return self._table.rows(torch.from_numpy(ids.astype(np.int64))).numpy()

    def bias(self, ids: IntArray) -> FloatArray:
        """(n,) what is added to the scores of (n,) entities."""
        return self._head.bias[torch.from_numpy(ids.astype(np.int64))].numpy()

    @torch.inference_mode()
    def transform(self, states: FloatArray) -> FloatArray:
        """(n, width) of (n, hidden) last states of [MASK]: its product with a row is the row's score."""
        return self._head.transform(torch.from_numpy(np.ascontiguousarray(states, np.float32))).numpy()


@dataclass(frozen=True, slots=True, eq=False)
class NewEntities:
    """Entities that a checkpoint lacks."""

    titles: Sequence[str]
    """(n,) distinct, none of them in the vocabulary."""
    rows: FloatArray
    """(n, width)"""
    bias: FloatArray
    """(n,)"""


def write_with(checkpoint: Checkpoint, vocabulary: dict[str, int], new: NewEntities, destination: Path) -> Checkpoint:
    """Write a copy of `checkpoint`, whose entities are `vocabulary`, that holds `new` behind them.

    The table is copied piece by piece. The new rows take the dtype of the file, int8 with scales too.
    Raises CheckpointError where the destination exists and is not an empty folder, or cannot be written.
    """
    size = checkpoint.setting("entity_vocab_size")
    added = _stored(checkpoint, new)
    by_file: dict[Path, dict[str, AppendedRows]] = defaultdict(dict)
    for name, rows in added.items():
        by_file[checkpoint.tensors[name].file][name] = rows
    try:
        with new_folder(destination) as folder:
            _copy(checkpoint.folder, folder, by_file)
            numbers = {title: size + place for place, title in enumerate(new.titles)}
            write_vocabulary(folder, {**vocabulary, **numbers}, size + len(new.titles))
            _grow_index(folder / INDEX, added)
    except OSError as error:
        raise CheckpointError(
            f"{destination}: cannot be written ({error.strerror or error}); free space, or choose another destination"
        ) from error
    return resolve(str(destination.absolute()))


def _copy(source: Path, folder: Path, added: Mapping[Path, Mapping[str, AppendedRows]]) -> None:
    """What belongs to a checkpoint, without pickles, and with `added` in the files that hold the tensors."""
    patterns = (*COPIED, "*.safetensors")
    for file in sorted({file for pattern in patterns for file in source.glob(pattern)}):
        if file in added:
            append_rows(file, folder / file.name, added[file])
        else:
            shutil.copyfile(file, folder / file.name)


def _stored(checkpoint: Checkpoint, new: NewEntities) -> dict[str, AppendedRows]:
    """The rows to append to each tensor of the files."""
    rows, bias = (torch.from_numpy(part.astype(np.float32)) for part in (new.rows, new.bias))
    values = {
        encoder_names(checkpoint)[ENTITY_TABLE]: rows,
        entity_head_names(checkpoint)["bias"]: bias,
    }
    # Some files hold the table again under the name that it has in the head.
    values |= {name: rows for name in (TIED, PREFIX + TIED) if name in checkpoint.tensors}
    stored: dict[str, AppendedRows] = {}
    for name, value in values.items():
        kind = checkpoint.tensors[name].dtype
        if kind == "I8":
            value, scales = quantise(value)
            scale_kind = _DTYPES[checkpoint.tensors[name + SCALE].dtype]
            stored[name + SCALE] = AppendedRows(len(scales), _bytes(scales.to(scale_kind)))
            stored[name] = AppendedRows(len(value), _bytes(value))
        else:
            stored[name] = AppendedRows(len(value), _bytes(value.to(_DTYPES[kind])))
    return stored


def _bytes(values: Tensor) -> bytes:
    return values.contiguous().view(torch.uint8).numpy().tobytes()


def _grow_index(file: Path, added: dict[str, AppendedRows]) -> None:
    """The index of shards says how many bytes all of them are."""
    if not file.exists():
        return
    content: dict[str, Any] = read_object(file)
    grown = sum(len(rows.content) for name, rows in added.items() if name in content.get("weight_map", {}))
    metadata = content.get("metadata")
    if isinstance(metadata, dict) and "total_size" in metadata:
        content["metadata"] = {**metadata, "total_size": metadata["total_size"] + grown}
        file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
