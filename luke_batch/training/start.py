"""Any base as one kind of folder, from which every worker of a run starts.

The folder is a LukeModel checkpoint as transformers lays it out, in float32, with two changes that LUKE's own
fine-tuning makes as well (Yamada et al. 2020, published code): of the entity table only the four special rows
stay, since no head looks up a title; and a vocabulary without `<ent>` and `<ent2>` gets rows for them, copies
of those of "@" and "#".

A BERT- or XLM-R-type encoder becomes a LUKE model by three things more: entity rows, a position table for
entities, and a query matrix for each direction of attention (word to entity, entity to word, entity to
entity). The matrices start as copies of the encoder's own queries, so that without entities the output equals
the encoder's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.checkpoint import MODEL_TYPES, TOKENIZER_FILES, resolve
from luke_batch.model.files.fetch import fetch
from luke_batch.model.files.fit import check_fit
from luke_batch.model.files.reading import SINGLE, content_hash, encoder_files, read_object
from luke_batch.model.files.weights import ENTITY_TABLE, WORD_TABLE, encoder_state
from luke_batch.model.inputs.tokenizer import Tokenizer

ENTITY_VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "[MASK]": 2, "[MASK2]": 3}
"""The entities of a model that links nothing: padding, unknown, and the two masks that stand for mentions."""

_FACTS = "start.json"
_HEAD_SETTINGS = ("id2label", "label2id", "problem_type", "luke_batch", "num_labels", "torch_dtype", "dtype")
"""What config.json of a fine-tuned checkpoint says of its head."""
_ENCODER_TYPES = ("bert", "roberta", "xlm-roberta")
_ENTITY_QUERIES = ("w2e_query", "e2w_query", "e2e_query")
_PAD = 1
"""The id of padding; positions are counted from the one behind it."""


@dataclass(frozen=True, slots=True)
class PreparedBase:
    """What a run knows of its base besides the weights."""

    name: str
    """As a model card may show it: no folder of this machine."""
    freeze_words: bool
    """The base stores its word embeddings with 8 bits."""


def base_digest(base: str) -> str:
    """A hash of the base's files; CheckpointError where it cannot be reached or is no folder of a model."""
    folder = fetch(base).folder
    if read_object(folder / "config.json").get("model_type") in MODEL_TYPES:
        return resolve(base).weights_hash
    files = [folder / "config.json", *encoder_files(folder, base)]
    return content_hash(files + [folder / name for name in TOKENIZER_FILES if (folder / name).exists()])


def prepare(base: str, folder: Path, seed: int) -> PreparedBase:
    """Write the start of a run into the empty folder.

    Args:
        base: `embedded`, a folder, hub id or URL of a LUKE checkpoint or of an encoder.
        folder: exists.
        seed: of the rows that an encoder does not have.

    Raises:
        CheckpointError: the base cannot be reached, is not whole, of another architecture, or its tokenizer
        is neither byte-level BPE nor Unigram.
    """
    location = fetch(base)
    kind = read_object(location.folder / "config.json").get("model_type")
    if kind in MODEL_TYPES:
        start, config, state = _from_luke(base, folder)
    else:
        start, config, state = _from_encoder(base, location.folder, folder, seed)
    config["architectures"] = ["LukeModel"]
    write_json(folder / "config.json", config)
    save_weights(state, folder / SINGLE)
    write_json(folder / _FACTS, asdict(start))
    check_fit(resolve(str(folder)), Tokenizer.load(folder), ())
    return start


def read_start(folder: Path) -> PreparedBase:
    """What `prepare` found."""
    return PreparedBase(**json.loads((folder / _FACTS).read_text(encoding="utf-8")))


def _from_luke(base: str, folder: Path) -> tuple[PreparedBase, dict[str, Any], dict[str, Tensor]]:
    checkpoint = resolve(base)
    own = Tokenizer.load(checkpoint.folder)
    check_fit(checkpoint, own, ())
    state = encoder_state(checkpoint)
    mask2 = own.entity_mask_id if own.entity_mask2_id is None else own.entity_mask2_id
    rows = torch.tensor([own.entity_pad_id, own.entity_unk_id, own.entity_mask_id, mask2])
    if int(rows.max()) >= len(state[ENTITY_TABLE]):
        raise CheckpointError(
            f"{base}: the entity vocabulary goes beyond the {len(state[ENTITY_TABLE])} rows of the weights;"
            " tokenizer and weights do not belong together"
        )
    state[ENTITY_TABLE] = state[ENTITY_TABLE][rows]
    _copy_tokenizer(checkpoint.folder, folder)
    tokenizer = Tokenizer.load(folder)
    state[WORD_TABLE] = _with_markers(state[WORD_TABLE], tokenizer)
    config = {name: value for name, value in checkpoint.config.items() if name not in _HEAD_SETTINGS}
    config |= {"vocab_size": len(state[WORD_TABLE]), "entity_vocab_size": len(rows)}
    frozen = checkpoint.tensors[WORD_TABLE].dtype == "I8" if WORD_TABLE in checkpoint.tensors else False
    return PreparedBase(_shown(base), frozen), config, state


def _from_encoder(
    base: str, source: Path, folder: Path, seed: int
) -> tuple[PreparedBase, dict[str, Any], dict[str, Tensor]]:
    encoder = load_base(source)
    _copy_tokenizer(source, folder)
    try:
        tokenizer = Tokenizer.load(folder)
    except CheckpointError as error:
        raise CheckpointError(
            f"{base}: its tokenizer cannot be used ({error}); LUKE needs byte-level BPE or Unigram pieces,"
            " as RoBERTa and XLM-R have them: choose such a base"
        ) from error
    if (tokenizer.bos_id, tokenizer.pad_id, tokenizer.eos_id) != (0, 1, 2):
        raise CheckpointError(
            f"{base}: <s>, <pad> and </s> have other ids than RoBERTa's and XLM-R's 0, 1 and 2; choose such a base"
        )
    try:
        luke = to_luke(encoder, _with_markers(encoder.state[WORD_TABLE], tokenizer), seed)
    except KeyError as error:
        raise CheckpointError(f"{base}: no {error.args[0]} among the weights; download it again") from error
    named = "LukeTokenizer" if tokenizer.kind == "luke" else "MLukeTokenizer"
    settings = {
        "tokenizer_class": named,
        "entity_token_1": "<ent>",
        "entity_token_2": "<ent2>",
        "add_prefix_space": tokenizer.add_prefix_space,
        "max_mention_length": tokenizer.max_mention_length,
    }
    write_json(folder / "tokenizer_config.json", settings)
    return PreparedBase(_shown(base), freeze_words=False), luke.config, luke.state


@dataclass(frozen=True)
class EncoderBase:
    """Weights and configuration of an encoder."""

    config: dict[str, Any]
    state: dict[str, Tensor]


def load_base(folder: Path) -> EncoderBase:
    """Reads config.json and model.safetensors of a BERT-, RoBERTa- or XLM-R-type encoder.

    Raises CheckpointError where the folder has something else, or is not whole.
    """
    config = read_object(folder / "config.json")
    if config.get("model_type") not in _ENCODER_TYPES:
        raise CheckpointError(
            f"{folder}: model_type {config.get('model_type')!r} is neither LUKE's nor one of"
            f" {', '.join(_ENCODER_TYPES)}; choose another base"
        )
    if config.get("hidden_act", "gelu") != "gelu":
        raise CheckpointError(f"{folder}: hidden_act {config['hidden_act']!r}; LUKE computes gelu only")
    try:
        tensors = {name: item for file in encoder_files(folder, str(folder)) for name, item in load_file(file).items()}
    except SafetensorError as error:
        raise CheckpointError(f"{folder}: weights cannot be read ({error}); download it again") from error
    # A model with a head puts a prefix before the names.
    state = {name.removeprefix("bert.").removeprefix("roberta."): item.float() for name, item in tensors.items()}
    return EncoderBase(config, state)


def to_luke(base: EncoderBase, word_rows: Tensor, seed: int = 0) -> EncoderBase:
    """The encoder as a LUKE model whose words have `word_rows`, and whose entities are ENTITY_VOCABULARY."""
    hidden = int(base.config["hidden_size"])
    # RoBERTa's table already counts from pad+1; BERT's counts from 0.
    shift = 0 if base.config["model_type"] != "bert" else _PAD + 1
    positions = base.state["embeddings.position_embeddings.weight"]
    words = torch.zeros(positions.shape[0] + shift, hidden)
    words[shift:] = positions
    # Entity positions are raw token indices: row 0 is the position of the first token.
    entities = torch.zeros_like(words)
    first = 0 if shift else _PAD + 1
    entities[: positions.shape[0] - first] = positions[first:]
    noise = torch.randn(len(ENTITY_VOCABULARY), hidden, generator=torch.Generator().manual_seed(seed))
    state = {
        WORD_TABLE: word_rows.float(),
        ENTITY_TABLE: word_rows.float().mean(0) + 0.01 * noise,
        "embeddings.position_embeddings.weight": words,
        "entity_embeddings.position_embeddings.weight": entities,
    }
    for room in ("embeddings", "entity_embeddings"):
        token_type = base.state["embeddings.token_type_embeddings.weight"][:1]
        state[f"{room}.token_type_embeddings.weight"] = token_type.clone()
        for part in ("weight", "bias"):
            state[f"{room}.LayerNorm.{part}"] = base.state[f"embeddings.LayerNorm.{part}"].clone()
    for name, tensor in base.state.items():
        if name.startswith("encoder.layer."):
            state[name] = tensor
            if ".attention.self.query." in name:
                state |= {name.replace(".query.", f".{query}."): tensor.clone() for query in _ENTITY_QUERIES}
    return EncoderBase(_luke_config(base.config, word_rows.shape[0], len(words)), state)


def _luke_config(config: dict[str, Any], vocabulary: int, positions: int) -> dict[str, Any]:
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
        "pad_token_id": _PAD,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "tie_word_embeddings": True,
    }


def _copy_tokenizer(source: Path, folder: Path) -> None:
    """The tokenizer's files, with the entity vocabulary of the four special entries."""
    for name in TOKENIZER_FILES:
        if (source / name).exists() and name != "entity_vocab.json":
            shutil.copyfile(source / name, folder / name)
    config = folder / "tokenizer_config.json"
    if config.exists():
        content = read_object(config)
        content.pop("entity_vocab", None)
        write_json(config, content)
    write_json(folder / "entity_vocab.json", ENTITY_VOCABULARY)


def _with_markers(rows: Tensor, tokenizer: Tokenizer) -> Tensor:
    """The word embeddings with rows up to the markers' ids; the markers start as "@" and "#"."""
    missing = tokenizer.vocab_size - len(rows)
    if missing <= 0:
        return rows
    extended = torch.cat([rows.float(), rows.float().mean(0).expand(missing, -1)])
    for marker, sign in ((tokenizer.entity_marker_id, "@"), (tokenizer.entity_marker2_id, "#")):
        pieces = tokenizer.encode([sign])[0]
        if marker >= len(rows) and len(pieces):
            extended[marker] = rows[int(pieces[-1])].float()
    return extended


def _shown(base: str) -> str:
    """A hub id as it is, a path by its last part."""
    is_path = base.startswith((".", "/", "~")) or Path(base).expanduser().is_dir()
    return Path(base).expanduser().absolute().name if is_path or "://" in base else base


def save_weights(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Parameters in float32, as transformers reads them."""
    plain = {name: item.detach().float().cpu().contiguous() for name, item in tensors.items()}
    save_file(plain, file, metadata={"format": "pt"})


def write_json(file: Path, content: object) -> None:
    """Indented, in UTF-8."""
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
