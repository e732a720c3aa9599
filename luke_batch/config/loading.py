"""Where the values of a job configuration come from, and what is said about a wrong one.

(the run that is replayed <) YAML file < environment (`LUKE_BATCH__INPUT__TEXT_COLUMN=body`) < assignments
(`heads.0.threshold=0.4`). Each layer is laid over the defaults: sections are merged key by key, lists are
replaced, an index changes one element. Values in the environment and in assignments are YAML, too.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from luke_batch.base.errors import ConfigError
from luke_batch.base.yaml_text import parse_yaml
from luke_batch.config import JobConfig
from luke_batch.config.complaints import explain

ENVIRONMENT_PREFIX = "LUKE_BATCH__"

Tree = dict[str, object]


def load_config(
    path: str | None = None,
    assignments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    base: Mapping[str, object] | None = None,
) -> JobConfig:
    """The configuration of a job; ConfigError names in one line whatever is wrong with it.

    path, assignments, environment: the layers. base: what a run's manifest says of its configuration.
    """
    tree = cast(Tree, JobConfig().model_dump(mode="json"))
    _merge(tree, copy.deepcopy(dict(base or {})))
    if path is not None:
        _merge(tree, _read(path))
    for name, value in sorted((environment or {}).items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            keys = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            _assign(tree, keys, parse_yaml(value, name), name)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        where = f"--set {key}"
        if not equals or not key:
            raise ConfigError(f"{where}: expected key=value, for example `--set heads.0.threshold=0.4`")
        _assign(tree, key.strip().split("."), parse_yaml(value, where), where)
    try:
        return JobConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, tree)) from None


def _read(path: str) -> Tree:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot read the configuration: {reason}") from None
    values = parse_yaml(text, path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as `input:` and `heads:`, not a {_kind(values)}")
    return cast(Tree, values)


def _merge(tree: Tree, layer: Mapping[str, object]) -> None:
    for key, value in layer.items():
        below = tree.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            _merge(cast(Tree, below), cast(Tree, value))
        else:
            tree[key] = value


def _assign(node: object, keys: Sequence[str], value: object, where: str) -> None:
    """Lay `value` at `keys` below `node`; a section in it is merged with the one that is there."""
    place, rest = _place(node, keys[0], where), keys[1:]
    if isinstance(place, int):
        items = cast(list[object], node)
        if place == len(items):
            items.append({})
        if rest:
            _assign(items[place], rest, value, where)
        else:
            items[place] = value
        return
    section = cast(Tree, node)
    if not rest:
        _merge(section, {place: value})
        return
    if section.get(place) is None:
        section[place] = {}
    _assign(section[place], rest, value, where)


def _place(node: object, key: str, where: str) -> str | int:
    """`key` as an index of a list, or as the name that a section has for it."""
    if isinstance(node, list):
        last = len(cast(list[object], node))
        if not key.isdecimal() or int(key) > last:
            raise ConfigError(f"{where}: `{key}` must be an index from 0 to {last} here")
        return int(key)
    if not isinstance(node, dict):
        raise ConfigError(f"{where}: nothing can be set under a {_kind(node)} (`{key}`)")
    return _same_name(cast(Iterable[str], node), key)


def _same_name(names: Iterable[str], key: str) -> str:
    """The environment knows upper case only, so a name that exists in another case is meant."""
    found = [name for name in names if name.lower() == key.lower()]
    return key if key in found or not found else found[0]


def _kind(value: object) -> str:
    return "list" if isinstance(value, list) else "single value"
