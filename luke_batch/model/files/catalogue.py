"""The published checkpoints, out of models.yaml.

Each configuration is a YAML file beside it, whose model `main` is the checkpoint.
"""

from functools import cache
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from luke_batch.base.yaml_text import parse_yaml

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
