"""A configuration that uses a checkpoint: that of models.yaml for a published one, else one for its heads."""

from typing import Any, cast

import yaml

from luke_batch.base.yaml_text import parse_yaml
from luke_batch.model.files.catalogue import catalogue
from luke_batch.model.files.describe import Description
from luke_batch.model.files.facts import HeadFacts

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
