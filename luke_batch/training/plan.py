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

import hashlib
import json
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from luke_batch.errors import CheckpointError, OutputError
from luke_batch.evaluation.libraries import check_libraries
from luke_batch.training.corpus import Corpus, DataFile, read_corpus
from luke_batch.training.data import Row
from luke_batch.training.labels import (
    HeadLabels,
    gives_unrelated,
    label_sets,
    longest_span,
    overlaps,
    read_labels,
    without_nothing,
)
from luke_batch.training.settings import FinetuneConfig, HeadName
from luke_batch.training.start import base_digest, prepare

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
    versions: dict[str, str]
    identity: str
    """Equal for runs that give the same model."""

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


def make_plan(train: str, dev: str | None, config: FinetuneConfig, output: Path) -> tuple[Plan, bool]:
    """Read the data and prepare the folder of the run, unless OUTPUT_MODEL or the folder is of this very run.

    Returns:
        The plan, and whether OUTPUT_MODEL is finished.

    Raises:
        InputError: TRAIN or DEV cannot be used.
        CheckpointError: the base cannot be used.
        OutputError: OUTPUT_MODEL is something else, or its folder holds the run of another command.
        MissingDependencyError: dev scores need libraries that are not installed.
    """
    if dev is not None:
        check_libraries()
    _check_output(output)
    trained, tested = read_corpus("TRAIN", train), None if dev is None else read_corpus("DEV", dev)
    identity = _identity(config, trained, tested)
    folder = run_folder(output)
    if (output / RECORD).exists():
        record: dict[str, Any] = json.loads((output / RECORD).read_text(encoding="utf-8"))
        if record.get("identity") != identity:
            raise OutputError(
                f"OUTPUT_MODEL {output} is a model of other settings, data or base; choose another folder"
            )
        shutil.rmtree(folder, ignore_errors=True)
        return _plan(train, dev, config, trained, tested, record["base"], identity), True
    if (folder / PLAN).exists():
        plan = Plan.read(folder)
        if plan.identity != identity:
            raise OutputError(
                f"{folder} holds an unfinished run of other settings, data or base; remove it, or choose"
                " another OUTPUT_MODEL"
            )
        return plan, False
    plan = _plan(train, dev, config, trained, tested, "", identity)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        (folder / START).mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"OUTPUT_MODEL {output} cannot be written beside: {error}; choose another"
        ) from error
    try:
        plan = replace(plan, base=prepare(config.base, folder / START, config.seed).name)
    except CheckpointError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    plan.write(folder)
    return plan, False


def rows_of(corpus: Corpus) -> list[Row]:
    """The rows as examples are made of them."""
    return [without_nothing(row) for row in corpus.rows]


def _check_output(output: Path) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise OutputError(f"OUTPUT_MODEL {output} is a file; choose a folder")
    if any(output.iterdir()) and not (output / RECORD).exists():
        raise OutputError(f"OUTPUT_MODEL {output} is a folder with something else in it; choose another")


def _plan(
    train: str,
    dev: str | None,
    config: FinetuneConfig,
    trained: Corpus,
    tested: Corpus | None,
    base: str,
    identity: str,
) -> Plan:
    rows = rows_of(trained)
    heads: dict[HeadName, HeadLabels] = {head: read_labels(head, rows, config) for head in config.heads}
    versions = {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()}
    return Plan(
        train=train,
        dev=dev,
        config=config,
        heads=heads,
        given_pairs=gives_unrelated(rows, config),
        max_words=config.max_words or longest_span(rows),
        train_files=tuple(trained.files),
        dev_files=tuple(tested.files) if tested is not None else (),
        notes=tuple(_notes(trained, tested, heads)),
        base=base,
        versions=versions,
        identity=identity,
    )


def _notes(trained: Corpus, tested: Corpus | None, heads: dict[HeadName, HeadLabels]) -> list[str]:
    notes: list[str] = []
    for corpus in (trained, tested):
        if corpus is None:
            continue
        notes += [
            f"{corpus.name}: {count} rows left out: {why}" for why, count in sorted(corpus.skipped.items())
        ]
        if "ner" in heads and (count := overlaps(corpus.rows)):
            notes.append(f"{corpus.name}: {count} mentions overlap others; flat decoding finds one of each")
    if tested is not None:
        for head, labels in heads.items():
            notes += _unknown(head, labels.spec.labels, rows_of(tested))
    return notes


def _unknown(head: HeadName, known: Sequence[str], rows: list[Row]) -> list[str]:
    """Labels that dev has and the head does not."""
    found = {label for labels in label_sets(head, rows) for label in labels}
    strange = sorted(found - set(known))
    return [f"DEV: {head} labels that TRAIN lacks count as misses: {', '.join(strange)}"] if strange else []


def _identity(config: FinetuneConfig, trained: Corpus, tested: Corpus | None) -> str:
    parts = {
        "settings": {**config.identity, "base": base_digest(config.base)},
        "train": trained.digest,
        "dev": None if tested is None else tested.digest,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
