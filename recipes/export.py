"""Writes a trained model as a checkpoint folder, format 1.

config.json, tokenizer.json,         as transformers names them
tokenizer_config.json,
entity_vocab.json
model-0000k-of-0000n.safetensors,    LukeModel's parameters in half precision; the word embeddings as 8-bit
model.safetensors.index.json         rows with a scale each (`<name>.scale`)
heads.safetensors                    `<head>.weight` and `<head>.bias` (pairs have none), float32, and
                                     where there are titles `entity_predictions.…`
span_scorer.safetensors              where there is one, float32
luke_batch.json                      the heads: labels, thresholds, settings
README.md                            the model card
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file
from torch import Tensor

from luke_batch.model.engine.span_scorer import SpanScorerNet
from luke_batch.model.files.checkpoint import HEADS_FILE, SCORER_FILE, resolve
from luke_batch.model.files.facts import FORMAT, MANIFEST
from luke_batch.model.files.fit import SCALE
from luke_batch.model.files.weights import ENTITY_TABLE, WORD_TABLE, dequantise, encoder_state, quantise
from luke_batch.model.writing.new_folder import new_folder, write_vocabulary
from luke_batch.training.model import MultiTaskModel
from luke_batch.training.start import ENTITY_VOCABULARY, save_weights, write_json

ENTITY_HEAD = "entity_predictions."
"""Before the names of its parameters in heads.safetensors, as in transformers."""
_NEVER = -1e4
_SHARD_BYTES = 45_000_000
"""Files stay under the 50 MB that code hosts accept."""

TOKENIZER_CONFIG: dict[str, Any] = {
    "tokenizer_class": "MLukeTokenizer",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
    "entity_token_1": "<ent>",
    "entity_token_2": "<ent2>",
    "entity_unk_token": "[UNK]",
    "entity_pad_token": "[PAD]",
    "entity_mask_token": "[MASK]",
    "entity_mask2_token": "[MASK2]",
    "max_mention_length": 30,
    "prefix_space": "first",
}


@dataclass(frozen=True)
class Scorer:
    """A trained span scorer, and from which probability on a span is looked at."""

    net: SpanScorerNet
    threshold: float


@dataclass(frozen=True)
class Card:
    """What an export says of itself: its name, the settings of its heads, and its README."""

    name: str
    heads: dict[str, dict[str, Any]]
    readme: str
    scorer: Scorer | None = None


def export(
    folder: Path, model: MultiTaskModel, luke_config: dict[str, Any], tokenizer: dict[str, Any], card: Card
) -> None:
    """Writes the folder as a whole: it replaces an older one only when it is complete."""
    fresh = folder.with_name(f".{folder.name}-new")
    shutil.rmtree(fresh, ignore_errors=True)
    with new_folder(fresh) as partial:
        write_json(partial / "config.json", luke_config)
        write_json(partial / "tokenizer.json", tokenizer)
        write_json(partial / "tokenizer_config.json", TOKENIZER_CONFIG)
        write_json(partial / "entity_vocab.json", ENTITY_VOCABULARY)
        manifest = {"format": FORMAT, "name": card.name, "heads": _heads(model, card), "context": "none"}
        write_json(partial / MANIFEST, manifest)
        (partial / "README.md").write_text(card.readme, encoding="utf-8")
        save_weights(model.heads.state_dict(), partial / HEADS_FILE)
        if card.scorer is not None:
            save_weights(card.scorer.net.state_dict(), partial / SCORER_FILE)
        _write_encoder(partial, model.encoder.state_dict())
    shutil.rmtree(folder, ignore_errors=True)
    fresh.replace(folder)


def add_entities(folder: Path, titles: Sequence[str], rows: Tensor, head: Mapping[str, Tensor]) -> None:
    """Give an exported folder an entity vocabulary: the four special entities and `titles`.

    Args:
        folder: as `export` wrote it, with these titles or others or none.
        titles: (n,) distinct.
        rows: (n, width) of the entity embedding.
        head: parameters of transformers' `entity_predictions` but for its decoder, which is tied to the rows.
            Its bias is that of the titles: the special entities are never predicted.
    """
    state = encoder_state(resolve(str(folder)))
    special = len(ENTITY_VOCABULARY)
    state[ENTITY_TABLE] = torch.cat([state[ENTITY_TABLE][:special], rows])
    vocabulary = {**ENTITY_VOCABULARY, **{title: special + number for number, title in enumerate(titles)}}
    write_vocabulary(folder, vocabulary, len(vocabulary))
    heads = load_head_state(folder)
    bias = torch.cat([torch.full((special,), _NEVER), head["bias"]])
    heads |= {ENTITY_HEAD + name: item for name, item in {**head, "bias": bias}.items()}
    save_weights(heads, folder / HEADS_FILE)
    _write_encoder(folder, state)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)


def load_head_state(folder: Path) -> dict[str, Tensor]:
    """The parameters of an exported folder's heads, its entity head left out."""
    heads = load_file(folder / HEADS_FILE)
    return {name: item for name, item in heads.items() if not name.startswith(ENTITY_HEAD)}


def _heads(model: MultiTaskModel, card: Card) -> dict[str, dict[str, Any]]:
    described: dict[str, dict[str, Any]] = {}
    for name, spec in model.specs.items():
        if spec.feature == "vector":
            continue
        described[name] = {
            "labels": list(spec.labels),
            "none_label": spec.none_label,
            "multi_label": spec.multi_label,
            "input": "joint" if spec.joint else "marked",
            "temperature": 1.0,
            **card.heads.get(name, {}),
        }
    if any(spec.joint for spec in model.specs.values()):
        described["embeddings"] = {"labels": [], "input": "joint"}  # the text vector, of the same pass
    if card.scorer is not None:
        described["spans"] = {"labels": ["start", "end"], "threshold": card.scorer.threshold}
    return described


def _write_encoder(folder: Path, state: Mapping[str, Tensor]) -> None:
    """The encoder's parameters as they are stored, in shards with their index."""
    tensors = {name: item.detach().half() for name, item in state.items() if name != WORD_TABLE}
    tensors[WORD_TABLE], tensors[WORD_TABLE + SCALE] = quantise(state[WORD_TABLE])
    save_torch_state_dict(tensors, folder, max_shard_size=_SHARD_BYTES, metadata={"format": "pt"})


def rounded_words(rows: Tensor) -> Tensor:
    """Word embeddings as they will be after storing and loading: what training should see."""
    return dequantise(*quantise(rows)).to(torch.float32)
