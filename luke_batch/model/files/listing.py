"""What `models list` tells: the published checkpoints out of models.yaml, what a checkpoint is from its
configuration and tokenizer alone, without its weights, and a configuration that uses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, cast

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from luke_batch.base.yaml_text import parse_yaml
from luke_batch.model.files.checkpoint import Context, read_config
from luke_batch.model.files.facts import MANIFEST, HeadFacts, read_manifest, transformers_heads
from luke_batch.model.files.fetch import fetch
from luke_batch.model.files.reading import INDEX, PICKLES, SINGLE, whole_number
from luke_batch.model.inputs.tokenizer import SPECIAL_ENTRIES, Kind, Tokenizer

FOLDER = Path(__file__).parents[1] / "published"
_LIST = FOLDER / "models.yaml"


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Size(_Facts):
    """What a checkpoint's config.json says of its size."""

    layers: int
    hidden: int
    words: int
    """Rows of the word embeddings."""
    entities: int
    """Rows of the entity embeddings of the full checkpoint, of 256 numbers each."""
    entity_aware: bool
    parameters: int
    """Of the encoder, without the rows of entities."""


class Score(_Facts):
    """What its authors report."""

    task: str
    metric: str
    value: str
    """Percent; one number for each part of the metric."""
    after: str | None = None
    """fine-tuning: of a model that was made from the checkpoint."""
    source: str


class Published(_Facts):
    """One checkpoint of the hub."""

    id: str
    architecture: str
    languages: str
    size: str
    lite: bool = False
    """Without the rows of titles."""
    configuration: str
    scores: tuple[Score, ...] = ()

    @property
    def configuration_file(self) -> Path:
        """Where its configuration lies."""
        return FOLDER / f"{self.configuration}.yaml"


class Catalogue(_Facts):
    """All of them."""

    licence: str
    sizes: dict[str, Size]
    models: tuple[Published, ...]

    @model_validator(mode="after")
    def _sizes_exist(self) -> Self:
        missing = {model.size for model in self.models} - self.sizes.keys()
        if missing:
            raise ValueError(f"no such sizes: {sorted(missing)}")
        return self

    def find(self, path: str) -> Published | None:
        """The checkpoint that a path of the configuration (`id` or `id@revision`) names."""
        name = path.partition("@")[0]
        return next((model for model in self.models if model.id == name), None)


@cache
def catalogue() -> Catalogue:
    """The published checkpoints."""
    return Catalogue.model_validate(parse_yaml(_LIST.read_text(encoding="utf-8"), str(_LIST)))


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
    config, named = read_config(folder, path), f"{path}: config.json"
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
        layers=whole_number(config, "num_hidden_layers", named),
        hidden_size=whole_number(config, "hidden_size", named),
        words=whole_number(config, "vocab_size", named),
        entities=whole_number(config, "entity_vocab_size", named),
        titles=titles,
        entity_aware=bool(config.get("use_entity_aware_attention", True)),
        context=context,
        heads=dict(sorted({"embeddings": HeadFacts(), **usable}.items())),
        weights=_weights(folder),
    )


def _weights(folder: Path) -> Literal["safetensors", "pytorch_model.bin", "not looked at"]:
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        return "safetensors"
    return "pytorch_model.bin" if any((folder / name).exists() for name in PICKLES) else "not looked at"


_ORDER = ("ner", "types", "relations", "links", "sequence", "tokens", "qa", "choice", "embeddings")
_NEEDS_MENTIONS = ("types", "relations", "links", "embeddings")
_EXAMPLES: dict[str, dict[str, object]] = {
    "qa": {"questions": ["Who?"]},
    "choice": {"candidates": ["yes", "no"]},
    "cloze": {"template": "[X] is a [Y]."},
}
"""Settings without a default."""


def snippet(description: Description) -> str:
    """YAML that `annotate --config` takes; `main` is the checkpoint."""
    published = catalogue().find(description.path)
    if published is not None:
        text = published.configuration_file.read_text(encoding="utf-8")
        values = cast("dict[str, Any]", parse_yaml(text, published.configuration_file.name))
        main = values["models"]["main"]
        if main["path"] == description.path:
            return text
        main["path"] = description.path
        return _dump(values)
    return _dump(_made(description))


def _made(description: Description) -> dict[str, object]:
    names = [name for name in _ORDER if name in description.heads]
    if "cloze" in description.heads and names == ["embeddings"]:
        names.append("cloze")  # of a checkpoint without titles all that it has
    heads: list[dict[str, object]] = []
    models: dict[str, object] = {"main": {"path": description.path}}
    if "ner" not in names and any(name in _NEEDS_MENTIONS for name in names):
        models["names"] = {"path": "embedded"}
        heads.append({"head": "ner", "model": "names"})
    heads += [{"head": name, **_settings(name, description)} for name in names]
    return {"models": models, "heads": heads}


def _settings(name: str, description: Description) -> dict[str, object]:
    facts: HeadFacts = description.heads[name]
    settings = dict(_EXAMPLES.get(name, {}))
    if name == "ner" and description.context == "document":
        settings |= {"spans": "all", "context": "document"}
    if name == "types" and facts.multi_label is None:
        settings["multi_label"] = False  # the checkpoint does not tell
    return settings


def _dump(values: object) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
