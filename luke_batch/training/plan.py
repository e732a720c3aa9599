"""What a run will do, decided before any process starts: everything that can be refused is refused here.

A run has a folder beside OUTPUT_MODEL, `.<name>-run`, until it is finished:

    plan.json         the plan, which all workers read; written last, so a folder without it is a preparation
                      that was killed
    start/            the base (`start.py`)
    checkpoint.pt     where the run stands
    span_scorer*      the span scorer of `ner` (.safetensors), or why there is none (.txt)
    best.safetensors  the trained weights of the best dev score so far
    curve.jsonl       losses and dev scores, as they come
    _luke_batch/      the lease of the command that works here (`corpus/lease.py`)
    model/            the result, renamed to OUTPUT_MODEL when it is whole
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from luke_batch.base.errors import CheckpointError, InputError, OutputError
from luke_batch.corpus.storage import STATE
from luke_batch.evaluation.calibration import check_libraries
from luke_batch.model.files.reading import read_object
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.batches import NumberedExamples, cut_into_batches
from luke_batch.training.corpus import DataFile, Row, TrainingCorpus, read_corpus
from luke_batch.training.encoder import EncoderConfig
from luke_batch.training.examples import (
    MarkedExamples,
    NerExamples,
    SpanProposer,
    SpanSampling,
    mention_places,
    proposer,
    relation_places,
)
from luke_batch.training.joint import (
    JointExamples,
    JointMultiTypes,
    JointOneRelation,
    JointRelations,
    JointTypes,
    SharedWindows,
)
from luke_batch.training.labels import HeadLabels, gives_unrelated, label_sets, longest_span, overlaps, read_labels
from luke_batch.training.leak import note_of, refuse_leak, shared_texts
from luke_batch.training.settings import FinetuneConfig, HeadName
from luke_batch.training.start import base_digest, prepare

PLAN = "plan.json"
START = "start"
JOINT = "joint"
"""The pass that types and relations share."""
RECORD = "training.json"
"""In OUTPUT_MODEL: how it came to be."""

_LIBRARIES = ("luke-batch", "ray", "torch", "transformers", "tokenizers", "pyarrow")
_SAMPLE = 256
"""Examples of a head from which the size of its batches is guessed."""
_LONGEST = 512
"""Tokens of a window at inference."""
_MIDDLE = 0.5
"""The share of the run at which they are drawn."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
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
    batches: dict[str, float]
    """About how many batches of a worker show every example of a pass once."""
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
        partial.write_bytes(TypeAdapter(TrainingPlan).dump_json(self, indent=1))
        partial.replace(folder / PLAN)

    @classmethod
    def read(cls, folder: Path) -> TrainingPlan:
        """The plan of a run's folder."""
        return TypeAdapter(TrainingPlan).validate_json((folder / PLAN).read_bytes())

    @property
    def passes(self) -> dict[str, tuple[HeadName, ...]]:
        """The heads that each kind of pass teaches."""
        joint: tuple[HeadName, ...] = tuple(head for head, labels in self.heads.items() if labels.spec.joint)
        found: dict[str, tuple[HeadName, ...]] = {head: (head,) for head in self.heads if head not in joint}
        if joint:
            found[JOINT] = joint
        return found

    def examples(
        self,
        name: str,
        rows: Sequence[Row],
        builder: InputBuilder,
        skipped: Counter[str],
        likely: SpanProposer | None = None,
    ) -> NumberedExamples:
        """The examples of a pass; `skipped` counts by reason whenever one cannot be made. `likely`: see NerExamples."""
        config = self.config
        limit = min(config.max_tokens, builder.max_tokens)
        if name == JOINT:
            parts = [self._part(head, builder, skipped) for head in self.passes[JOINT]]
            return SharedWindows(JOINT, parts, rows, (), builder, skipped, max_tokens=limit)
        (head,) = self.passes[name]
        spec = self.heads[head].spec
        if head == "ner":
            sampling = SpanSampling(most=config.negatives)
            propose = proposer(self.max_words)
            return NerExamples(
                rows, spec.labels, builder, propose, skipped, max_tokens=limit, sampling=sampling, likely=likely
            )
        return MarkedExamples(
            head,
            mention_places(rows, together=spec.multi_label)
            if head == "types"
            else relation_places(rows, spec, given=self.given_pairs),
            spec.labels,
            builder,
            skipped,
            multi_label=spec.multi_label,
            unlabelled_share=config.unrelated_weight,
            max_tokens=limit,
        )

    def _part(self, head: HeadName, builder: InputBuilder, skipped: Counter[str]) -> JointExamples:
        """What a head learns from windows that it shares."""
        spec = self.heads[head].spec
        if head == "types":
            return (JointMultiTypes if spec.multi_label else JointTypes)(head, (), spec.labels, builder, skipped)
        if spec.multi_label:
            return JointRelations(head, (), spec.labels, builder, skipped, given=self.given_pairs)
        return JointOneRelation(head, (), spec.labels, builder, skipped, given=self.given_pairs)


def run_folder(output: Path) -> Path:
    """Where a run keeps its state."""
    return output.parent / f".{output.name}-run"


def input_builder(start: Path) -> InputBuilder:
    """For windows as long as inference has them, and as the positions of the base allow."""
    encoder = EncoderConfig.from_luke(read_object(start / "config.json"))
    room = encoder.max_position_embeddings - encoder.pad_token_id - 1
    return InputBuilder(Tokenizer.load(start), min(_LONGEST, room))


def make_plan(
    train: str, dev: str | None, config: FinetuneConfig, output: Path, claim: Callable[[], None] = lambda: None
) -> tuple[TrainingPlan, bool]:
    """Read the data and prepare the folder of the run, unless OUTPUT_MODEL or the folder is of this very run.

    `claim` is called once there is something to write, and before that: it may raise.

    Returns:
        The plan, and whether OUTPUT_MODEL is finished.

    Raises:
        InputError: TRAIN or DEV cannot be used, or too many texts are in both.
        CheckpointError: the base cannot be used.
        OutputError: OUTPUT_MODEL is something else, or its folder holds the run of another command.
        MissingDependencyError: dev scores need libraries that are not installed.
    """
    if dev is not None:
        check_libraries()
    _check_output(output)
    trained, tested = read_corpus("TRAIN", train), None if dev is None else read_corpus("DEV", dev)
    plan = _plan(train, dev, config, trained, tested)
    folder = run_folder(output)
    if (output / RECORD).exists():
        record: dict[str, Any] = json.loads((output / RECORD).read_text(encoding="utf-8"))
        if record.get("identity") != plan.identity:
            raise OutputError(
                f"OUTPUT_MODEL {output} is a model of other settings, data or base; choose another folder"
            )
        shutil.rmtree(folder, ignore_errors=True)
        return replace(plan, base=record["base"]), True
    if tested is not None and not config.allow_overlap:
        refuse_leak(trained, tested)
    claim()
    if (folder / PLAN).exists():
        before = TrainingPlan.read(folder)
        if before.identity != plan.identity:
            raise OutputError(
                f"{folder} holds an unfinished run of other settings, data or base; remove it, or choose"
                " another OUTPUT_MODEL"
            )
        # Paths and checkpoint times may be others than at the first call; what they lead to is the same.
        plan = replace(before, train=train, dev=dev, config=config)
        plan.write(folder)
        return plan, False
    _clear(folder)
    try:
        (folder / START).mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"OUTPUT_MODEL {output} cannot be written beside: {error}; choose another") from error
    try:
        plan = replace(plan, base=prepare(config.base, folder / START, config.seed).name)
        plan = replace(plan, batches=_batches(plan, trained.rows, input_builder(folder / START)))
    except (CheckpointError, InputError):
        _clear(folder)
        raise
    plan.write(folder)
    return plan, False


def _clear(folder: Path) -> None:
    """Remove all of a run's folder but the lease."""
    for item in folder.glob("*"):
        if item.is_dir() and item.name != STATE:
            shutil.rmtree(item, ignore_errors=True)
        elif not item.is_dir():
            item.unlink()
    with suppress(OSError):  # it is not there, or has a lease
        folder.rmdir()


def _check_output(output: Path) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise OutputError(f"OUTPUT_MODEL {output} is a file; choose a folder")
    if any(output.iterdir()) and not (output / RECORD).exists():
        raise OutputError(f"OUTPUT_MODEL {output} is a folder with something else in it; choose another")


def _plan(
    train: str, dev: str | None, config: FinetuneConfig, trained: TrainingCorpus, tested: TrainingCorpus | None
) -> TrainingPlan:
    """The plan without what only the prepared base tells."""
    heads: dict[HeadName, HeadLabels] = {head: read_labels(head, trained.rows, config) for head in config.heads}
    identity = {
        "settings": {**config.identity, "base": base_digest(config.base)},
        "train": trained.digest,
        "dev": None if tested is None else tested.digest,
    }
    return TrainingPlan(
        train=train,
        dev=dev,
        config=config,
        heads=heads,
        given_pairs=gives_unrelated(trained.rows, config),
        max_words=config.max_words or longest_span(trained.rows),
        train_files=tuple(trained.files),
        dev_files=tuple(tested.files) if tested is not None else (),
        notes=tuple(_notes(trained, tested, heads)),
        base="",
        batches={},
        versions={name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()},
        identity=hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
    )


def _notes(trained: TrainingCorpus, tested: TrainingCorpus | None, heads: dict[HeadName, HeadLabels]) -> list[str]:
    notes: list[str] = []
    for corpus in [trained] if tested is None else [trained, tested]:
        notes += [f"{corpus.name}: {count} rows left out: {why}" for why, count in sorted(corpus.skipped.items())]
        if "ner" in heads and (count := overlaps(corpus.rows)):
            notes.append(f"{corpus.name}: {count} mentions overlap others; flat decoding finds one of each")
    if tested is not None and (shared := shared_texts(trained, tested)):
        notes.append(note_of(shared, tested))
    for head, labels in heads.items():
        found = {label for named in label_sets(head, tested.rows if tested else []) for label in named}
        if strange := sorted(found - set(labels.spec.labels)):
            notes.append(f"DEV: {head} labels that TRAIN lacks count as misses: {', '.join(strange)}")
    return notes


def _batches(plan: TrainingPlan, rows: Sequence[Row], builder: InputBuilder) -> dict[str, float]:
    """About how many batches show every example of each pass once, from a sample of them."""
    config = plan.config
    found: dict[str, float] = {}
    for name, taught in plan.passes.items():
        head = " and ".join(taught)
        skipped: Counter[str] = Counter()
        examples = plan.examples(name, rows, builder, skipped)
        if len(examples) < config.workers:
            raise InputError(
                f"TRAIN has {len(examples)} examples of the head {head} for {config.workers} workers; lower --workers"
            )
        rng = np.random.default_rng(config.seed)
        numbers = rng.permutation(len(examples))[:_SAMPLE].tolist()
        drawn = [item for number in numbers if (item := examples.at(number, rng, _MIDDLE)) is not None]
        if not drawn:
            raise InputError(
                f"TRAIN: none of {len(numbers)} examples of the head {head} can be used ({', '.join(skipped)}); raise"
                " --max-tokens, or cut the texts into sentences"
            )
        shown = len(examples) * len(drawn) / len(numbers)
        found[name] = shown * len(cut_into_batches(drawn, config.batch_tokens)) / len(drawn)
    return found
