"""Which relations make sense: `relations.json` of a model folder, learned from data and meant to be read and edited.

    {"format": 1,
     "types": ["LOC", "ORG", "PER"],
     "every": {"heads": ["PER", "ORG"]},
     "relations": {"place of birth": {"heads": ["PER"], "tails": ["LOC"], "one_tail": true, "symmetric": false},
                   "father": {"heads": ["PER"], "tails": ["PER"], "one_tail": true, "inverse": "child"}}}

`types` are the labels of mentions that the rules tell of: a mention with another label, or none, may be anything.
`every` is the rule of each relation that has none of its own.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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
    one_tail: bool = False
    """A head has it with one tail at most: a person has one place of birth."""
    one_head: bool = False
    """A tail has it with one head at most."""
    symmetric: bool | None = None
    """true: it holds both ways, or neither; false: never both ways; null: nothing is known."""
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
    relations: dict[str, Rule] = {}

    @model_validator(mode="after")
    def _known_types(self) -> Self:
        for name, rule in (("every", self.every), *self.relations.items()):
            unknown = sorted({*(rule.heads or ()), *(rule.tails or ())} - set(self.types))
            if unknown:
                raise ValueError(f"{name}: {', '.join(unknown)} not among `types`")
        return self

    def rule(self, relation: str) -> Rule:
        """The relation's own, or that of every one."""
        return self.relations.get(relation, self.every)


def read_constraints(folder: Path, labels: tuple[str, ...]) -> Constraints | None:
    """Those of a model folder whose head `relations` has `labels`; None where it brings none.

    CheckpointError where the file cannot be used, or names a relation that is not one of `labels`.
    """
    path = folder / CONSTRAINTS_FILE
    if not path.exists():
        return None
    try:
        found = Constraints.model_validate(read_object(path))
    except ValidationError as error:
        raise CheckpointError(f"{path}: {first_complaint(error)}; mend it, or remove the file") from error
    named = {*found.relations, *(rule.inverse for rule in (found.every, *found.relations.values()) if rule.inverse)}
    unknown = sorted(named - set(labels))
    if unknown:
        raise CheckpointError(
            f"{path}: {', '.join(map(repr, unknown[:4]))} not among the labels of the head relations; mend the names"
        )
    return found
