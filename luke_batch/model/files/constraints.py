"""Which relations make sense: `relations.json` of a model folder, learned from data and meant to be read and edited.

    {"format": 1,
     "types": ["LOC", "ORG", "PER"],
     "every": {"heads": ["PER", "ORG"]},
     "inside": ["country"],
     "relations": {"place of birth": {"heads": ["PER"], "tails": ["LOC"], "one_tail": "nested", "symmetric": false},
                   "father": {"heads": ["PER"], "tails": ["PER"], "one_tail": true, "inverse": "child"}}}

`types` are the labels of mentions that the rules tell of: a mention with another label, or none, may be anything.
`every` is the rule of each relation that has none of its own.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.facts import first_complaint
from luke_batch.model.files.reading import read_object

CONSTRAINTS_FILE = "relations.json"


class Rule(BaseModel):
    """What one relation may hold between."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    heads: tuple[str, ...] | None = Field(default=None, strict=False)
    """Labels that its head may have; null: any."""
    tails: tuple[str, ...] | None = Field(default=None, strict=False)
    """Labels that its tail may have; null: any."""
    one_tail: bool | Literal["nested"] = False
    """true: a head has it with one tail at most, as a person has one father; nested: or with several that lie in one
    another, as Warsaw and Poland.
    """
    one_head: bool = False
    """A tail has it with one head at most."""
    symmetric: bool | None = None
    """true: it holds both ways, or neither; false: never both ways; null: nothing is known."""
    excludes: tuple[str, ...] = Field(default=(), strict=False)
    """Relations that never hold of the same two mentions, in either order: siblings are not married."""
    inverse: str | None = None
    """The relation that holds the other way round: of `father`, `child`. Where each is the inverse of the other, they
    are one statement.
    """


class Constraints(BaseModel):
    """The rules of all relations of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    format: Literal[1]
    types: tuple[str, ...] = Field(strict=False)
    """Labels of mentions that the rules tell of."""
    every: Rule = Rule()
    """For relations without a rule of their own."""
    inside: tuple[str, ...] = Field(default=(), strict=False)
    """Relations that say of their head that it lies in their tail."""
    relations: dict[str, Rule] = {}

    def rule(self, relation: str) -> Rule:
        """The relation's own, or that of every one."""
        return self.relations.get(relation, self.every)


def read_constraints(folder: Path, labels: tuple[str, ...]) -> Constraints | None:
    """Those of a model folder whose head `relations` has `labels`; None where it brings none.

    CheckpointError where the file cannot be used, or names a label or relation that is not there.
    """
    path = folder / CONSTRAINTS_FILE
    if not path.exists():
        return None
    try:
        found = Constraints.model_validate(read_object(path))
    except ValidationError as error:
        raise CheckpointError(f"{path}: {first_complaint(error)}; mend it, or remove the file") from error
    rules = [found.every, *found.relations.values()]
    labelled = {label for rule in rules for label in (*(rule.heads or ()), *(rule.tails or ()))}
    named = {*found.relations, *found.inside, *(rule.inverse for rule in rules if rule.inverse)}
    named |= {label for rule in rules for label in rule.excludes}
    for names, known, place in ((labelled, found.types, "its `types`"), (named, labels, "the labels of relations")):
        unknown = sorted(names - set(known))
        if unknown:
            raise CheckpointError(f"{path}: {', '.join(map(repr, unknown[:4]))} not among {place}; mend the names")
    return found
