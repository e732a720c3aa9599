"""What a run will do, decided before any process starts: the one file that all workers read.

A run has a folder beside OUTPUT_MODEL, `.<name>-run`, until it is finished:

    plan.json         this plan; written last, so a folder without it is a preparation that was killed
    start/            the base (`start.py`)
    checkpoint.pt     where the run stands
    best.safetensors  the trained weights of the best dev score so far
    curve.jsonl       losses and dev scores, as they come
    model/            the result, renamed to OUTPUT_MODEL when it is whole
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from luke_batch.training.corpus import Corpus, DataFile
from luke_batch.training.data import Row
from luke_batch.training.labels import (
    HeadLabels,
    without_nothing,
)
from luke_batch.training.settings import FinetuneConfig, HeadName

PLAN = "plan.json"
START = "start"
RECORD = "training.json"
"""In OUTPUT_MODEL: how it came to be."""

_LIBRARIES = ("luke-batch", "ray", "torch", "transformers", "tokenizers", "pyarrow")


@dataclass(frozen=True, slots=True)
class Plan:
    """A run."""

    train: str
    dev: str | None
    config: FinetuneConfig
    heads: dict[HeadName, HeadLabels]
    given_pairs: bool
    """Only pairs that stand in the data are examples of relations."""
    max_words: int
    train_files: tuple[DataFile, ...]
    dev_files: tuple[DataFile, ...]
    notes: tuple[str, ...]
    """What a person should know of the data, a line each."""
    base: str
    """As a model card may show it."""
    batches: dict[HeadName, float]
    """About how many batches of a worker show every example of a head once."""
    versions: dict[str, str]
    identity: str
    """Equal for runs that give the same model."""

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        one_pass = sum(self.batches.values()) / self.config.workers
        return self.config.steps or max(1, math.ceil(self.config.epochs * one_pass))

    def write(self, folder: Path) -> None:
        """Write plan.json, as a whole."""
        partial = folder / f"{PLAN}.partial"
        partial.write_bytes(TypeAdapter(Plan).dump_json(self, indent=1))
        partial.replace(folder / PLAN)

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan of a run's folder."""
        return TypeAdapter(Plan).validate_json((folder / PLAN).read_bytes())


def run_folder(output: Path) -> Path:
    """Where a run keeps its state."""
    return output.parent / f".{output.name}-run"


def rows_of(corpus: Corpus) -> list[Row]:
    """The rows as examples are made of them."""
    return [without_nothing(row) for row in corpus.rows]
