"""Any base as one kind of folder, from which every worker of a run starts.

The folder is a LukeModel checkpoint as transformers lays it out, in float32, with two changes that LUKE's own
fine-tuning makes as well (Yamada et al. 2020, published code): of the entity table only the four special rows
stay, since no head looks up a title; and a vocabulary without `<ent>` and `<ent2>` gets rows for them, copies
of those of "@" and "#".
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.checkpoint import MODEL_TYPES, TOKENIZER_FILES, resolve
from luke_batch.model.files.fetch import fetch
from luke_batch.model.files.fit import check_fit
from luke_batch.model.files.reading import SINGLE, content_hash, encoder_files, read_object
from luke_batch.model.files.weights import encoder_state
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.training.base import ENTITY_VOCABULARY, load_base, to_luke

WORDS = "embeddings.word_embeddings.weight"
ENTITIES = "entity_embeddings.entity_embeddings.weight"
_FACTS = "start.json"
_HEAD_SETTINGS = ("id2label", "label2id", "problem_type", "luke_batch", "num_labels", "torch_dtype", "dtype")
"""What config.json of a fine-tuned checkpoint says of its head."""


@dataclass(frozen=True, slots=True)
class Start:
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


def prepare(base: str, folder: Path, seed: int) -> Start:
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
    _write_json(folder / "config.json", config)
    save_file(
        {name: item.float().contiguous() for name, item in state.items()},
        folder / SINGLE,
        metadata={"format": "pt"},
    )
    _write_json(folder / _FACTS, asdict(start))
    check_fit(resolve(str(folder)), Tokenizer.load(folder), ())
    return start


def read_start(folder: Path) -> Start:
    """What `prepare` found."""
    return Start(**json.loads((folder / _FACTS).read_text(encoding="utf-8")))


def _from_luke(base: str, folder: Path) -> tuple[Start, dict[str, Any], dict[str, Tensor]]:
    checkpoint = resolve(base)
    own = Tokenizer.load(checkpoint.folder)
    check_fit(checkpoint, own, ())
    state = encoder_state(checkpoint)
    mask2 = own.entity_mask_id if own.entity_mask2_id is None else own.entity_mask2_id
    rows = torch.tensor([own.entity_pad_id, own.entity_unk_id, own.entity_mask_id, mask2])
    if int(rows.max()) >= len(state[ENTITIES]):
        raise CheckpointError(
            f"{base}: the entity vocabulary goes beyond the {len(state[ENTITIES])} rows of the weights;"
            " tokenizer and weights do not belong together"
        )
    state[ENTITIES] = state[ENTITIES][rows]
    _copy_tokenizer(checkpoint.folder, folder)
    tokenizer = Tokenizer.load(folder)
    state[WORDS] = _with_markers(state[WORDS], tokenizer)
    config = {name: value for name, value in checkpoint.config.items() if name not in _HEAD_SETTINGS}
    config |= {"vocab_size": len(state[WORDS]), "entity_vocab_size": len(rows)}
    frozen = checkpoint.tensors[WORDS].dtype == "I8" if WORDS in checkpoint.tensors else False
    return Start(_shown(base), frozen), config, state


def _from_encoder(base: str, source: Path, folder: Path, seed: int) -> tuple[Start, dict[str, Any], dict[str, Tensor]]:
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
    words = "embeddings.word_embeddings.weight"
    try:
        luke = to_luke(encoder, _with_markers(encoder.state[words], tokenizer), seed)
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
    _write_json(folder / "tokenizer_config.json", settings)
    return Start(_shown(base), freeze_words=False), luke.config, luke.state


def _copy_tokenizer(source: Path, folder: Path) -> None:
    """The tokenizer's files, with the entity vocabulary of the four special entries."""
    for name in TOKENIZER_FILES:
        if (source / name).exists() and name != "entity_vocab.json":
            shutil.copyfile(source / name, folder / name)
    config = folder / "tokenizer_config.json"
    if config.exists():
        content = read_object(config)
        content.pop("entity_vocab", None)
        _write_json(config, content)
    _write_json(folder / "entity_vocab.json", ENTITY_VOCABULARY)


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


def _write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
