"""The metrics that infra/ asks for."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

INFRA = Path(__file__).parents[1] / "infra"

_SELECTOR = re.compile(r"\b((?:ray|luke_batch)[a-z0-9_:]*)(\{[^}]*\})?")
_GROUPS = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")


def expressions() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of every panel and every rule."""
    board = json.loads((INFRA / "grafana" / "luke-batch.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]


def rules() -> list[dict[str, Any]]:
    """All rules, alerts and recorded ones."""
    document = yaml.safe_load((INFRA / "prometheus" / "rules.yaml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def queried() -> dict[str, set[str]]:
    """Each metric that a query names -> the labels that it is selected or grouped by; recorded ones aside."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for _, expression in expressions():
        groups = {label.strip() for group in _GROUPS.findall(expression) for label in group.split(",")}
        for name, selector in _SELECTOR.findall(expression):
            if name not in recorded:
                found[name] |= set(re.findall(r"(\w+)\s*[=!]", selector)) | (groups - {""})
    return dict(found)
