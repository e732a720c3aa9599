"""What every part of the configuration shares."""

from pydantic import BaseModel, ConfigDict

EMBEDDED = "embedded"
"""What is meant by this name lies inside of the package."""


class Section(BaseModel):
    """Base of every part: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def listed(value: object) -> object:
    """`spans: all` and `spans: [all]` mean the same."""
    return [value] if isinstance(value, str) else value
