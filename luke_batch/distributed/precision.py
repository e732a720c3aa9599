"""What `precision: auto` stands for in a job. Loads torch where it has to be tried, and Ray never.

A faster precision is tried beside float32 on documents of INPUT, in this process: `auto` is the faster one
where both give the same labels, and float32 otherwise. A small corpus is not worth the trial. What an earlier
run of OUTPUT had decided stays decided: a night tries nothing, and its fingerprint is the one of last night.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import pyarrow as pa

from luke_batch.annotate.agreement import ComparedEngine, Found, Tally
from luke_batch.annotate.annotator import ModelStage, StageSpec, model_stages
from luke_batch.annotate.preparation import Preparation
from luke_batch.config import JobConfig, ModelConfig, Precision
from luke_batch.config.fingerprint import fingerprint
from luke_batch.corpus.fragments import pack
from luke_batch.corpus.manifest import latest_manifest
from luke_batch.corpus.read import read_item
from luke_batch.corpus.restriction import Restriction
from luke_batch.corpus.sample import Census, count, draw
from luke_batch.corpus.storage import Storage
from luke_batch.document.source import rename_collisions, source_column
from luke_batch.document.texts import texts_of
from luke_batch.model.engine.device import faster_precision, pick_device, use_threads
from luke_batch.model.engine.engine import Engine, Task, load_engine
from luke_batch.model.files.checkpoint import Checkpoint

_LEAST_BYTES = 2**19
"""Of a corpus, uncompressed, below which nothing is tried."""
_DOCUMENTS = 512
"""That are tried at most."""
_LABELS = 400
"""Of every task, after which no further documents are tried."""
_SECONDS = 20.0
"""The same by time."""
_LONGEST = 20_000
"""Characters of a document beyond which it is left out."""
_TOGETHER = 4
_SEED = 0


@dataclass(frozen=True, slots=True)
class Resolved:
    """A job without `precision: auto`."""

    config: JobConfig
    agreements: Mapping[str, str]
    """What the trials of this time found, by the paths of checkpoints: "ner 398 of 400, types 120 of 120"."""


def resolve_precision(
    input: str,
    output: Storage | None,
    config: JobConfig,
    facts: Mapping[str, str],
    where: Restriction | None = None,
) -> Resolved:
    """Decide every `precision: auto` of a job.

    Args:
        input, config, where: the job. output: its OUTPUT, whose earlier runs are asked; None: there is none.
        facts: as for `fingerprint`; of no use without OUTPUT.

    Raises:
        UsageError: INPUT, or a checkpoint, cannot be used.
    """
    models = {spec.model.path: spec.model for spec in model_stages(config)}
    choices: dict[str, list[Precision]] = {}
    for path, model in models.items():
        if model.precision == "auto":
            faster = faster_precision(model)
            choices[path] = ["float32"] if faster is None else ["float32", faster]
    if not any(len(choice) > 1 for choice in choices.values()):
        return Resolved(_with(config, dict.fromkeys(choices, "float32")), {})
    last = None if output is None else _last_like(output, config, choices, facts)
    if last is not None:
        return Resolved(last, {})
    return _tried(input, config, {path: choice[-1] for path, choice in choices.items()}, where)


def _last_like(
    output: Storage, config: JobConfig, choices: Mapping[str, Sequence[Precision]], facts: Mapping[str, str]
) -> JobConfig | None:
    """The job as the last run of OUTPUT decided that had the same but for its choices."""
    known: dict[str, JobConfig] = {}
    for chosen in product(*choices.values()):
        job = _with(config, dict(zip(choices, chosen, strict=True)))
        known[fingerprint(job, facts)] = job
    last = latest_manifest(output, lambda run: run.fingerprint in known)
    return None if last is None else known[last.fingerprint]


def _with(config: JobConfig, chosen: Mapping[str, Precision]) -> JobConfig:
    """The job with these precisions instead of `auto`, by the paths of checkpoints."""

    def change(model: ModelConfig) -> ModelConfig:
        if model.precision != "auto":
            return model
        return model.model_copy(update={"precision": chosen[model.path]})

    return config.with_models(change) if chosen else config


def _tried(input: str, config: JobConfig, candidates: Mapping[str, Precision], where: Restriction | None) -> Resolved:
    chosen: dict[str, Precision] = dict.fromkeys(candidates, "float32")
    exact = _with(config, chosen)
    census = count(input, config, where)
    if census.bytes < _LEAST_BYTES:
        return Resolved(exact, {})
    trial = _Trial(exact, candidates)
    begun = time.monotonic()
    for table in _documents(census, config):
        trial(table)
        if trial.over or time.monotonic() - begun > _SECONDS:
            break
    for path, tallies in trial.found.items():
        if all(tally.shown for tally in tallies.values()):
            chosen[path] = candidates[path]
    return Resolved(_with(config, chosen), {path: _shown(tallies) for path, tallies in trial.found.items()})


def _documents(census: Census, config: JobConfig) -> Iterator[pa.Table]:
    """Some of INPUT, few at a time."""
    for item in pack(draw(census, _DOCUMENTS, _SEED), _TOGETHER, config.output.max_bytes):
        table = read_item(census.storage, item, config.input).table
        for start in range(0, table.num_rows, _TOGETHER):
            yield table.slice(start, _TOGETHER)


def _shown(tallies: Mapping[Task, Tally]) -> str:
    return ", ".join(
        f"{task} {tallies[task].agreeing} of {tallies[task].compared}" for task in sorted(tallies, key=str)
    )


class _Trial:
    """A job in float32 whose models are asked in their candidates' precision, too."""

    def __init__(self, config: JobConfig, candidates: Mapping[str, Precision]) -> None:
        self._config = config
        self._candidates = candidates
        self.found: dict[str, Found] = {}
        """By the paths of checkpoints: of every task, also one that no document asked for."""
        self._stages = [Preparation(config), *(self._stage(spec) for spec in model_stages(config))]

    def __call__(self, table: pa.Table) -> None:
        """Annotate documents; what comes out is of no use."""
        table = rename_collisions(table, self._config.columns)
        texts = texts_of(source_column(table, self._config.input.text_column))
        table = table.filter([text is None or len(text) <= _LONGEST for text in texts])
        for stage in self._stages:
            table = stage(table)

    @property
    def over(self) -> bool:
        """Further documents would tell nothing more."""
        return all(tally.compared >= _LABELS for found in self.found.values() for tally in found.values())

    def _stage(self, spec: StageSpec) -> ModelStage:
        use_threads(max(1, round(spec.model.num_cpus)))  # as in an actor
        gpu = spec.model.num_gpus > 0
        return ModelStage(self._config, spec, pick_device(spec.model.device, gpu), self._load)

    def _load(self, model: ModelConfig, checkpoint: Checkpoint, tasks: Collection[Task], device: str) -> Engine:
        engine = load_engine(model, checkpoint, tasks, device)
        precision = self._candidates.get(model.path, "float32")
        if precision == "float32":
            return engine
        found = self.found.setdefault(model.path, {})
        found.update({task: Tally() for task in tasks if task != Task.BOUNDS and task not in found})
        faster = load_engine(model.model_copy(update={"precision": precision}), checkpoint, tasks, device)
        return ComparedEngine(engine, faster, checkpoint, found)
