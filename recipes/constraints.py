"""Learns which relations make sense, and writes relations.json into a model folder.

    python recipes/constraints.py --data DATA --model OUT/trained [--mentions OUT/fewrel_mentions.json]

What labels a relation's head and tail have is learned from Re-DocRED, which brings them, and from FewRel by the labels
that a model's `ner` gives to its mentions (`embedded.py` keeps them in fewrel_mentions.json). What is one-valued,
symmetric or inverse is learned from Re-DocRED alone: there every relation of a sentence is annotated, with the entity
that each mention stands for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from luke_batch.model.files.constraints import CONSTRAINTS_FILE
from luke_batch.model.files.facts import MANIFEST
from luke_batch.training.corpus import Row
from recipes.joint_rows import FEWREL
from recipes.rows import read_rows

TYPES = ("LOC", "MISC", "NUM", "ORG", "PER", "TIME")
"""Labels that Re-DocRED's mentions have."""
_LEAST_SHARE = 0.04
"""Of a relation's heads or tails that have a label, for that to be allowed."""
_LEAST_SEEN = 8
"""Relations (by distinct pairs of surfaces) without which nothing is learned of a label."""
_ALWAYS, _NEVER = 0.9, 0.03
_LEAST_ENTITIES = 20
"""Heads without which a relation is not called one-valued."""
_ONE = 0.93
_INSIDE = ("located in the administrative territorial entity", "country", "part of", "continent")
"""Relations of a place with what it lies in."""
_MANY_TAILS = frozenset(
    {
        *("author", "composer", "creator", "director", "employer", "founded by", "operator", "original network"),
        *("owned by", "participant of", "performer", "production company", "conflict", "part of", "present in work"),
        *("official language", "languages spoken, written or signed", "location", "work location", "award received"),
        *("followed by", "location of formation", "applies to jurisdiction", "located in or next to body of water"),
    }
)
"""Relations that sentences nearly always tell of one tail, while some tell of several, as of two founders. Read by a
person: what can be more than one is not always so in the data."""
_MANY_HEADS = frozenset(
    {
        *("date of birth", "date of death", "inception", "point in time", "start time", "end time", "publication date"),
        *("educated at", "member of sports team", "place of birth", "place of death", "participant", "location"),
        *(
            "headquarters location",
            "member of political party",
            "work location",
            "cast member",
            "performer",
            "member of",
        ),
        *("notable work", "chairperson", "contains administrative territorial entity", "founded by", "residence"),
    }
)
"""The same of one head: many are born in a place."""


@dataclass
class Seen:
    """What the data has of one relation."""

    heads: Counter[str] = field(default_factory=Counter[str])
    tails: Counter[str] = field(default_factory=Counter[str])
    told: int = 0
    """Pairs of entities that have it, where all relations are annotated."""
    same: Counter[str] = field(default_factory=Counter[str])
    """Of these, by relation, those that have it too."""
    back: Counter[str] = field(default_factory=Counter[str])
    """Of these, by relation, those that have it the other way round."""
    several: list[int] = field(default_factory=list[int])
    """Tails of each head in a sentence."""
    apart: list[int] = field(default_factory=list[int])
    """The same, those that lie in one another counted as one."""
    shared: list[int] = field(default_factory=list[int])
    """Heads of each tail in a sentence."""


def learned(rows: Iterable[Row], entities: Iterable[Sequence[int] | None], labels: Sequence[str]) -> dict[str, Any]:
    """The content of relations.json.

    Args:
        rows: sentences with mentions, whose labels may be unknown (others than TYPES), and relations.
        entities: of each row the number of the entity that each mention stands for; None where not every relation of
            the row is annotated.
        labels: the relations of the checkpoint.
    """
    seen: dict[str, Seen] = defaultdict(Seen)
    for row, numbers in zip(rows, entities, strict=True):
        _count_labels(row, seen)
        if numbers is not None:
            _count_entities(row, numbers, seen)
    rules = {label: _rule(seen[label]) for label in labels if label in seen}
    _add_directions(rules, seen)
    _add_rivals(rules, seen)
    for label, rule in rules.items():
        for side, several in (("one_tail", _MANY_TAILS), ("one_head", _MANY_HEADS)):
            if label in several:
                rule.pop(side, None)
    inside = [label for label in _INSIDE if label in labels]
    return {
        "format": 1,
        "types": list(TYPES),
        "inside": inside,
        "relations": {label: rule for label, rule in rules.items() if rule},
    }


def _count_labels(row: Row, seen: dict[str, Seen]) -> None:
    """Each pair of surfaces once, however often a sentence has them. Other labels than TYPES count as "other"."""
    names = [row.text[item.start : item.end].casefold() for item in row.entities]
    told = {(names[item.head], names[item.tail], item.label): item for item in row.relations}
    for item in told.values():
        head, tail = row.entities[item.head].label, row.entities[item.tail].label
        seen[item.label].heads[head if head in TYPES else "other"] += 1
        seen[item.label].tails[tail if tail in TYPES else "other"] += 1


def _count_entities(row: Row, numbers: Sequence[int], seen: dict[str, Seen]) -> None:
    of_pair: dict[tuple[int, int], set[str]] = defaultdict(set)
    tails: dict[tuple[str, int], set[int]] = defaultdict(set)
    heads: dict[tuple[str, int], set[int]] = defaultdict(set)
    for item in row.relations:
        head, tail = numbers[item.head], numbers[item.tail]
        of_pair[head, tail].add(item.label)
        tails[item.label, head].add(tail)
        heads[item.label, tail].add(head)
    for (head, tail), told in of_pair.items():
        for label in told:
            seen[label].told += 1
            seen[label].same.update(told)
            seen[label].back.update(of_pair.get((tail, head), ()))
    inside = {pair for pair, told in of_pair.items() if told & set(_INSIDE)}
    for (label, _), others in tails.items():
        seen[label].several.append(len(others))
        nested = all((one, two) in inside or (two, one) in inside for one, two in combinations(others, 2))
        seen[label].apart.append(1 if nested else len(others))
    for (label, _), others in heads.items():
        seen[label].shared.append(len(others))


def _rule(seen: Seen) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    for side, counts in (("heads", seen.heads), ("tails", seen.tails)):
        total = counts.total()
        if total >= _LEAST_SEEN:
            rule[side] = sorted(name for name in TYPES if counts[name] >= max(2, _LEAST_SHARE * total))
    sides = (("one_tail", "nested", seen.apart), ("one_tail", True, seen.several), ("one_head", True, seen.shared))
    rule |= {side: value for side, value, counts in sides if _is_one(counts)}
    if rule.get("one_tail") is True and max(seen.several) > max(seen.apart):
        rule["one_tail"] = "nested"
    return rule


def _is_one(counts: Sequence[int]) -> bool:
    return len(counts) >= _LEAST_ENTITIES and sum(count == 1 for count in counts) >= _ONE * len(counts)


def _add_directions(rules: dict[str, dict[str, Any]], seen: dict[str, Seen]) -> None:
    """Symmetric and inverse, where the data has enough of a relation."""
    for label, rule in rules.items():
        found = seen[label]
        if found.told < _LEAST_SEEN:
            continue
        if found.back[label] >= _ALWAYS * found.told:
            rule["symmetric"] = True
        elif found.back[label] <= _NEVER * found.told:
            rule["symmetric"] = False
        likely = [(count, name) for name, count in found.back.items() if count >= _ALWAYS * found.told]
        # The narrowest of them: capital is located in, contains … and has capital of for its own.
        named = sorted((seen[name].told, name) for _, name in likely if name != label and name in rules)
        if named and not rule.get("symmetric"):
            rule["inverse"] = named[0][1]


def _add_rivals(rules: dict[str, dict[str, Any]], seen: dict[str, Seen]) -> None:
    """Relations between mentions of one kind, as of two persons, that no two ever have both: kinship, mostly."""
    of_kind: dict[str, list[str]] = defaultdict(list)
    for label, rule in rules.items():
        if rule.get("heads") == rule.get("tails") and len(rule.get("heads", ())) == 1 and seen[label].told:
            of_kind[rule["heads"][0]].append(label)
    for labels in of_kind.values():
        for one, two in combinations(labels, 2):
            enough = max(seen[one].told, seen[two].told) >= _LEAST_ENTITIES
            if enough and not seen[one].same[two] and not seen[one].back[two]:
                rules[one].setdefault("excludes", []).append(two)


def with_labels(row: Row, mentions: Sequence[tuple[int, int, str]]) -> Row:
    """The row whose mentions have the labels of those found at their places."""
    found = {(start, end): label for start, end, label in mentions}
    return replace(row, entities=tuple(replace(item, label=found.get(item.span)) for item in row.entities))


def training(data: Path, mentions: Path | None) -> tuple[list[Row], list[list[int] | None]]:
    """Re-DocRED's rows with their entities, and FewRel's where its mentions have labels."""
    file = data / "relations/redocred/train.parquet"
    rows = read_rows([file], None)
    entities: list[list[int] | None] = pq.read_table(file, columns=["clusters"])["clusters"].to_pylist()
    if mentions is not None:
        fewrel = [
            row for row in read_rows([data / "relations/fewrel_wiki/train.parquet"], Counter()) if row.source == FEWREL
        ]
        found = json.loads(mentions.read_text(encoding="utf-8"))
        rows += [with_labels(row, own) for row, own in zip(fewrel, found, strict=True)]
        entities += [None] * len(fewrel)
    return rows, entities


def main() -> None:
    """Learn, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="exported folder")
    parser.add_argument("--mentions", type=Path, help="fewrel_mentions.json of the training")
    options = parser.parse_args()
    manifest = json.loads((options.model / MANIFEST).read_text(encoding="utf-8"))
    content = learned(*training(options.data, options.mentions), manifest["heads"]["relations"]["labels"])
    write(options.model / CONSTRAINTS_FILE, content)


def write(path: Path, content: dict[str, Any]) -> None:
    """One line a relation, for a person to read and edit."""
    rules = ",\n".join(
        f"  {json.dumps(label, ensure_ascii=False)}: {json.dumps(rule, ensure_ascii=False)}"
        for label, rule in content["relations"].items()
    )
    head = json.dumps({name: value for name, value in content.items() if name != "relations"}, ensure_ascii=False)[1:-1]
    path.write_text(f'{{{head},\n "relations": {{\n{rules}\n }}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
