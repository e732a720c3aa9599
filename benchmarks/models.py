"""The models that are timed: the embedded one, and one of LUKE-base's size with random weights."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LukeConfig, LukeModel

from luke_batch.model.files.checkpoint import Checkpoint, resolve

_SHARED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "entity_vocab.json",
    "luke_batch.json",
    "span_scorer.safetensors",
)
BASE_SIZE = {
    "hidden_size": 768,
    "entity_emb_size": 256,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "intermediate_size": 3072,
}


def base_sized(folder: Path) -> Checkpoint:
    """Write a checkpoint with the tokenizer and the labels of the embedded model and random weights."""
    embedded = resolve("embedded").folder
    for name in _SHARED:
        shutil.copy(embedded / name, folder)
    settings = json.loads((embedded / "config.json").read_text(encoding="utf-8")) | BASE_SIZE
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    torch.manual_seed(0)
    model = LukeModel(LukeConfig.from_dict(settings), add_pooling_layer=False)
    save_file(model.state_dict(), folder / "model.safetensors")
    heads = load_file(embedded / "heads.safetensors")
    widen = BASE_SIZE["hidden_size"] // resolve("embedded").hidden_size
    save_file(
        {
            name: torch.randn(len(tensor), tensor.shape[1] * widen) / 8 if tensor.dim() == 2 else tensor
            for name, tensor in heads.items()
        },
        folder / "heads.safetensors",
    )
    return resolve(str(folder))
