"""A BERT- or XLM-R-type encoder as the start of a LUKE model.

LUKE is such an encoder with three things more: entity rows, a position table for entities, and a query
matrix for each direction of attention (word to entity, entity to word, entity to entity). The matrices start
as copies of the encoder's own queries, so that without entities the output equals the encoder's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.reading import encoder_files, read_object

State = dict[str, Tensor]

ENTITY_VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "[MASK]": 2, "[MASK2]": 3}
"""The entities of a model that links nothing: padding, unknown, and the two masks that stand for mentions."""

_ENTITY_QUERIES = ("w2e_query", "e2w_query", "e2e_query")
ENCODER_TYPES = frozenset({"bert", "roberta", "xlm-roberta"})


@dataclass(frozen=True)
class Base:
    """Weights and configuration of an encoder."""

    config: dict[str, Any]
    state: State


def load_base(folder: Path) -> Base:
    """Reads config.json and model.safetensors of a BERT-, RoBERTa- or XLM-R-type encoder.

    Raises CheckpointError where the folder has something else, or is not whole.
    """
    config = read_object(folder / "config.json")
    if config.get("model_type") not in ENCODER_TYPES:
        raise CheckpointError(
            f"{folder}: model_type {config.get('model_type')!r} is neither LUKE's nor one of"
            f" {', '.join(sorted(ENCODER_TYPES))}; choose another base"
        )
    if config.get("hidden_act", "gelu") != "gelu":
        raise CheckpointError(f"{folder}: hidden_act {config['hidden_act']!r}; LUKE computes gelu only")
    try:
        tensors = {name: item for file in encoder_files(folder, str(folder)) for name, item in load_file(file).items()}
    except SafetensorError as error:
        raise CheckpointError(f"{folder}: weights cannot be read ({error}); download it again") from error
    return Base(config, {_plain_name(name): tensor.float() for name, tensor in tensors.items()})


def _plain_name(name: str) -> str:
    """Parameter names without the prefix that a model with a head puts before them."""
    return name.removeprefix("bert.").removeprefix("roberta.")


def to_luke(base: Base, word_rows: Tensor, seed: int = 0) -> Base:
    """The encoder as a LUKE model whose words have `word_rows`, and whose entities are ENTITY_VOCABULARY."""
    hidden = int(base.config["hidden_size"])
    # RoBERTa's table already counts from pad+1; BERT's counts from 0.
    pad = 1
    shift = 0 if base.config["model_type"] != "bert" else pad + 1
    positions = base.state["embeddings.position_embeddings.weight"]
    rows = positions.shape[0] + shift
    state: State = {"embeddings.word_embeddings.weight": word_rows.float()}
    words = torch.zeros(rows, hidden)
    words[shift:] = positions
    state["embeddings.position_embeddings.weight"] = words
    # Entity positions are raw token indices: row 0 is the position of the first token.
    entities = torch.zeros(rows, hidden)
    first = 0 if shift else pad + 1
    entities[: positions.shape[0] - first] = positions[first:]
    state["entity_embeddings.position_embeddings.weight"] = entities
    token_type = base.state["embeddings.token_type_embeddings.weight"][:1]
    for room in ("embeddings", "entity_embeddings"):
        state[f"{room}.token_type_embeddings.weight"] = token_type.clone()
        for part in ("weight", "bias"):
            state[f"{room}.LayerNorm.{part}"] = base.state[f"embeddings.LayerNorm.{part}"].clone()
    noise = torch.randn(len(ENTITY_VOCABULARY), hidden, generator=torch.Generator().manual_seed(seed))
    state["entity_embeddings.entity_embeddings.weight"] = word_rows.float().mean(0) + 0.01 * noise
    state.update(_layers(base.state))
    return Base(_luke_config(base.config, word_rows.shape[0], rows, pad), state)


def _layers(state: State) -> State:
    layers = {name: tensor for name, tensor in state.items() if name.startswith("encoder.layer.")}
    queries = {name: tensor for name, tensor in layers.items() if ".attention.self.query." in name}
    for name, tensor in queries.items():
        for query in _ENTITY_QUERIES:
            layers[name.replace(".query.", f".{query}.")] = tensor.clone()
    return layers


def _luke_config(config: dict[str, Any], vocabulary: int, positions: int, pad: int) -> dict[str, Any]:
    return {
        "architectures": ["LukeModel"],
        "model_type": "luke",
        "vocab_size": vocabulary,
        "entity_vocab_size": len(ENTITY_VOCABULARY),
        "hidden_size": config["hidden_size"],
        "entity_emb_size": config["hidden_size"],
        "num_hidden_layers": config["num_hidden_layers"],
        "num_attention_heads": config["num_attention_heads"],
        "intermediate_size": config["intermediate_size"],
        "hidden_act": config.get("hidden_act", "gelu"),
        "hidden_dropout_prob": config.get("hidden_dropout_prob", 0.1),
        "attention_probs_dropout_prob": config.get("attention_probs_dropout_prob", 0.1),
        "max_position_embeddings": positions,
        "type_vocab_size": 1,
        "layer_norm_eps": config["layer_norm_eps"],
        "use_entity_aware_attention": True,
        "pad_token_id": pad,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "tie_word_embeddings": True,
    }
