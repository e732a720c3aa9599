"""What a checkpoint is, from its configuration and tokenizer alone: no weights are read or downloaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.checkpoint import Context, read_config
from luke_batch.model.files.facts import MANIFEST, HeadFacts, read_manifest, transformers_heads
from luke_batch.model.files.fetch import fetch
from luke_batch.model.files.tensors import INDEX, PICKLES, SINGLE
from luke_batch.model.inputs.entities import SPECIAL_ENTRIES
from luke_batch.model.inputs.tokenizer import Kind, Tokenizer

_FILES = ("*.json", "*.txt", "*.model")
_NEED_TITLES = ("links",)


@dataclass(frozen=True, slots=True)
class Description:
    """One checkpoint."""

    path: str
    """As the user named it."""
    architectures: tuple[str, ...]
    tokenizer: Kind
    layers: int
    hidden_size: int
    words: int
    """Rows of the word embeddings."""
    entities: int
    """Rows of the entity embeddings."""
    titles: int
    """Wikipedia titles in the entity vocabulary; 0 of a lite checkpoint."""
    entity_aware: bool
    context: Context | None
    heads: Mapping[str, HeadFacts]
    """In the order of their names; `embeddings` always. Without titles there is no `links`."""
    weights: Literal["safetensors", "pytorch_model.bin", "not looked at"]
    """Of a folder; a hub id or URL is not asked for them."""

    @property
    def lite(self) -> bool:
        """The entity vocabulary holds special entries alone."""
        return self.titles == 0


def describe(path: str) -> Description:
    """Describe `path` (`embedded`, a folder, a hub id, a URL); of the latter two small files are downloaded.

    Raises CheckpointError where there is no such checkpoint, or its configuration or tokenizer is damaged.
    """
    location = fetch(path, _FILES)
    folder = location.folder
    config = read_config(folder, path)
    if (folder / MANIFEST).exists():
        heads, context = read_manifest(folder)
    else:
        heads, context = transformers_heads(config, {}, path)
    tokenizer = Tokenizer.load(folder)
    titles = sum(title not in SPECIAL_ENTRIES for title in tokenizer.entity_vocab)
    usable = {name: facts for name, facts in heads.items() if titles or name not in _NEED_TITLES}
    return Description(
        path=path,
        architectures=tuple(str(name) for name in cast("list[object]", config.get("architectures") or [])),
        tokenizer=tokenizer.kind,
        layers=_number(config, "num_hidden_layers", path),
        hidden_size=_number(config, "hidden_size", path),
        words=_number(config, "vocab_size", path),
        entities=_number(config, "entity_vocab_size", path),
        titles=titles,
        entity_aware=bool(config.get("use_entity_aware_attention", True)),
        context=context,
        heads=dict(sorted({"embeddings": HeadFacts(), **usable}.items())),
        weights=_weights(folder),
    )


def _number(config: Mapping[str, object], name: str, path: str) -> int:
    value = config.get(name)
    if not isinstance(value, int):
        raise CheckpointError(f"{path}: config.json has no usable {name} ({value!r}); download it again")
    return value


def _weights(folder: Path) -> Literal["safetensors", "pytorch_model.bin", "not looked at"]:
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        return "safetensors"
    return "pytorch_model.bin" if any((folder / name).exists() for name in PICKLES) else "not looked at"
