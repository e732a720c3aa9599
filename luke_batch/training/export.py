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

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from luke_batch.model.engine.span_scorer import SpanScorerNet
from luke_batch.model.files.checkpoint import SCORER_FILE
from luke_batch.model.files.weights import dequantise, quantise
from luke_batch.model.writing.new_folder import write_vocabulary
from luke_batch.training.base import ENTITY_VOCABULARY
from luke_batch.training.model import MultiTaskModel

FORMAT = 1
WORDS = "embeddings.word_embeddings.weight"
SCALE = WORDS + ".scale"
ENTITIES = "entity_embeddings.entity_embeddings.weight"
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    partial.chmod(0o755)
    _write_json(partial / "config.json", luke_config)
    _write_json(partial / "tokenizer.json", tokenizer, indent=None)
    _write_json(partial / "tokenizer_config.json", TOKENIZER_CONFIG)
    _write_json(partial / "entity_vocab.json", ENTITY_VOCABULARY)
    manifest = {"format": FORMAT, "name": card.name, "heads": _heads(model, card), "context": "none"}
    _write_json(partial / "luke_batch.json", manifest)
    (partial / "README.md").write_text(card.readme, encoding="utf-8")
    heads = {name: item.detach().float().contiguous() for name, item in model.heads.state_dict().items()}
    save_file(heads, partial / "heads.safetensors", metadata={"format": "pt"})
    if card.scorer is not None:
        save_file(card.scorer.net.state_dict(), partial / SCORER_FILE, metadata={"format": "pt"})
    _write_shards(partial, stored(model.encoder.state_dict()))
    for file in partial.iterdir():
        file.chmod(0o644)
    _replace(partial, folder)


def stored(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's parameters as they are stored."""
    tensors = {name: item.detach().half().contiguous() for name, item in state.items() if name != WORDS}
    tensors[WORDS], tensors[SCALE] = quantise(state[WORDS])
    return tensors


def add_entities(folder: Path, titles: Sequence[str], rows: Tensor, head: Mapping[str, Tensor]) -> None:
    """Give an exported folder an entity vocabulary: the four special entities and `titles`.

    Args:
        folder: as `export` wrote it, with these titles or others or none.
        titles: (n,) distinct.
        rows: (n, width) of the entity embedding.
        head: parameters of transformers' `entity_predictions` but for its decoder, which is tied to the rows.
            Its bias is that of the titles: the special entities are never predicted.
    """
    state = load_encoder_state(folder)
    special = len(ENTITY_VOCABULARY)
    state[ENTITIES] = torch.cat([state[ENTITIES][:special], rows])
    vocabulary = {**ENTITY_VOCABULARY, **{title: special + number for number, title in enumerate(titles)}}
    write_vocabulary(folder, vocabulary, len(vocabulary))
    heads = load_head_state(folder)
    bias = torch.cat([torch.full((special,), _NEVER), head["bias"]])
    heads |= {ENTITY_HEAD + name: item.contiguous() for name, item in {**head, "bias": bias}.items()}
    save_file(heads, folder / "heads.safetensors", metadata={"format": "pt"})
    _write_shards(folder, stored(state))
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)


def load_encoder_state(folder: Path) -> dict[str, Tensor]:
    """The encoder's parameters of an exported folder, in float32."""
    index: dict[str, Any] = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(index["weight_map"].values())):
        tensors.update(load_file(folder / name))
    scale = tensors.pop(SCALE)
    state = {name: item.float() for name, item in tensors.items()}
    state[WORDS] = dequantise(tensors[WORDS], scale)
    return state


def load_head_state(folder: Path) -> dict[str, Tensor]:
    """The parameters of an exported folder's heads, its entity head left out."""
    heads = load_file(folder / "heads.safetensors")
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
            "temperature": 1.0,
            **card.heads.get(name, {}),
        }
    if card.scorer is not None:
        described["spans"] = {"labels": ["start", "end"], "threshold": card.scorer.threshold}
    return described


def _write_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, item in tensors.items():
        if size + item.nbytes > _SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = item
        size += item.nbytes
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(shard, file))
    total = sum(item.nbytes for item in tensors.values())
    _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


def _write_json(file: Path, content: object, indent: int | None = 1) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


def _replace(partial: Path, folder: Path) -> None:
    old = partial.with_name(partial.name + "-old")
    if folder.exists():
        folder.replace(old)
    partial.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def rounded_words(rows: Tensor) -> Tensor:
    """Word embeddings as they will be after storing and loading: what training should see."""
    return dequantise(*quantise(rows)).to(torch.float32)
