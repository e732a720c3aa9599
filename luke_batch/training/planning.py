"""From the arguments of a command to the plan of its run: everything that can be refused is refused here."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from luke_batch.base.errors import CheckpointError, InputError, OutputError
from luke_batch.evaluation.calibration import check_libraries
from luke_batch.training.corpus import Corpus, read_corpus
from luke_batch.training.data import Row
from luke_batch.training.examples import batches_of_a_pass, input_builder, task_of
from luke_batch.training.labels import (
    HeadLabels,
    gives_unrelated,
    label_sets,
    longest_span,
    overlaps,
    read_labels,
)
from luke_batch.training.plan import PLAN, RECORD, START, Plan, rows_of, run_folder
from luke_batch.training.settings import FinetuneConfig, HeadName
from luke_batch.training.start import base_digest, prepare

_LIBRARIES = ("luke-batch", "ray", "torch", "transformers", "tokenizers", "pyarrow")


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
        # Paths and checkpoint times may be others than at the first call; what they lead to is the same.
        plan = replace(Plan.read(folder), train=train, dev=dev, config=config)
        if plan.identity != identity:
            raise OutputError(
                f"{folder} holds an unfinished run of other settings, data or base; remove it, or choose"
                " another OUTPUT_MODEL"
            )
        plan.write(folder)
        return plan, False
    plan = _plan(train, dev, config, trained, tested, "", identity)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        (folder / START).mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"OUTPUT_MODEL {output} cannot be written beside: {error}; choose another") from error
    try:
        name = prepare(config.base, folder / START, config.seed).name
        plan = replace(plan, base=name, batches=_batches(plan, rows_of(trained), folder / START))
    except (CheckpointError, InputError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    plan.write(folder)
    return plan, False


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
        batches={},
        versions=versions,
        identity=identity,
    )


def _batches(plan: Plan, rows: Sequence[Row], start: Path) -> dict[HeadName, float]:
    config = plan.config
    builder = input_builder(start)
    found: dict[HeadName, float] = {}
    for head in plan.heads:
        skipped: Counter[str] = Counter()
        task = task_of(head, plan, rows, builder, skipped)
        if len(task) < config.workers:
            raise InputError(
                f"TRAIN has {len(task)} examples of the head {head} for {config.workers} workers; lower --workers"
            )
        found[head] = batches_of_a_pass(task, skipped, tokens=config.batch_tokens, seed=config.seed)
    return found


def _notes(trained: Corpus, tested: Corpus | None, heads: dict[HeadName, HeadLabels]) -> list[str]:
    notes: list[str] = []
    for corpus in (trained, tested):
        if corpus is None:
            continue
        notes += [f"{corpus.name}: {count} rows left out: {why}" for why, count in sorted(corpus.skipped.items())]
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
