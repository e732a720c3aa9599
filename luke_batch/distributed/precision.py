"""What `precision: auto` stands for in a job. Loads torch where it has to be tried, and Ray never.

A faster precision is tried beside float32 on documents of INPUT, in this process: `auto` is the faster one
where both give the same labels, and float32 otherwise. A small corpus is not worth the trial. What an earlier
run of OUTPUT had decided stays decided: a night tries nothing, and its fingerprint is the one of last night.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from luke_batch.annotate.agreement import ComparedEngine, Found, Tally
from luke_batch.annotate.annotator import ModelStage, model_stages
from luke_batch.annotate.preparation import Preparation
from luke_batch.config import JobConfig, ModelConfig, Precision
from luke_batch.config.fingerprint import fingerprint
from luke_batch.corpus.manifest import latest_manifest
from luke_batch.corpus.read import ReadItem
from luke_batch.corpus.sample import count, sample
from luke_batch.corpus.sources import Restriction
from luke_batch.corpus.storage import Storage
from luke_batch.document.source import source_column, texts_of
from luke_batch.isolation.reading import Reader
from luke_batch.isolation.trial import footer_trial
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


@dataclass(frozen=True, slots=True)
class Resolved:
    """A job without `precision: auto`."""

    config: JobConfig
    agreements: Mapping[str, str]
    """What the trials of this time found, by the paths of checkpoints: "ner 398 of 400, types 120 of 120"."""


def resolve_precision(
    input: str, output: Storage | None, config: JobConfig, facts: Mapping[str, str], where: Restriction | None = None
) -> Resolved:
    """Decide every `precision: auto` of a job.

    Args:
        input, config, where: the job. output: its OUTPUT, whose earlier runs are asked; None: there is none.
        facts: as for `fingerprint`; of no use without OUTPUT.

    Raises:
        UsageError: INPUT, or a checkpoint, cannot be used.
    """
    auto = [spec.model for spec in model_stages(config) if spec.model.precision == "auto"]
    candidates: dict[str, Precision] = {model.path: faster_precision(model) or "float32" for model in auto}
    if all(precision == "float32" for precision in candidates.values()):
        return Resolved(_with(config, candidates), {})
    last = None if output is None else _last_like(output, config, candidates, facts)
    return _tried(input, config, candidates, where) if last is None else Resolved(last, {})


def _last_like(
    output: Storage, config: JobConfig, candidates: Mapping[str, Precision], facts: Mapping[str, str]
) -> JobConfig | None:
    """The job as the last run of OUTPUT decided that had the same but for its choices."""
    choices: list[list[Precision]] = [["float32", precision] for precision in candidates.values()]
    jobs = [_with(config, dict(zip(candidates, chosen, strict=True))) for chosen in product(*choices)]
    known = {fingerprint(job, facts): job for job in jobs}
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
    census = count(input, config, where, footer_trial(config.isolation))
    if census.bytes < _LEAST_BYTES:
        return Resolved(exact, {})
    with Reader(census.storage, config.input, config.isolation) as reader:
        found = _compared(exact, candidates, sample(census, _DOCUMENTS, _TOGETHER, config, reader))
    for path, tallies in found.items():
        if all(tally.shown for tally in tallies.values()):
            chosen[path] = candidates[path]
    return Resolved(_with(config, chosen), {path: _shown(tallies) for path, tallies in found.items()})


def _compared(
    config: JobConfig, candidates: Mapping[str, Precision], documents: Iterable[ReadItem]
) -> dict[str, Found]:
    """How often a job in float32 and its candidates give the same labels for documents, by the paths of
    checkpoints: of every task, also one that no document asked for.
    """
    found: dict[str, Found] = {}

    def load(model: ModelConfig, checkpoint: Checkpoint, tasks: Collection[Task], device: str) -> Engine:
        engine = load_engine(model, checkpoint, tasks, device)
        precision = candidates.get(model.path, "float32")
        if precision == "float32":
            return engine
        tallies = found.setdefault(model.path, {})
        tallies.update({task: Tally() for task in tasks if task != Task.BOUNDS and task not in tallies})
        faster = load_engine(model.model_copy(update={"precision": precision}), checkpoint, tasks, device)
        return ComparedEngine(engine, faster, checkpoint, tallies)

    stages: list[Preparation | ModelStage] = [Preparation(config)]
    for spec in model_stages(config):
        use_threads(max(1, round(spec.model.num_cpus)))  # as in an actor
        device = pick_device(spec.model.device, gpu_assigned=spec.model.num_gpus > 0)
        stages.append(ModelStage(config, spec, device, load))
    begun = time.monotonic()
    items = (read.table for read in documents)
    for part in (item.slice(start, _TOGETHER) for item in items for start in range(0, len(item), _TOGETHER)):
        texts = texts_of(source_column(part, config.input.text_column))
        table = part.filter([text is None or len(text) <= _LONGEST for text in texts])
        for stage in stages:
            table = stage(table)
        enough = all(tally.compared >= _LABELS for tallies in found.values() for tally in tallies.values())
        if enough or time.monotonic() - begun > _SECONDS:
            break
    return found


def _shown(tallies: Found) -> str:
    counts = {str(task): f"{tally.agreeing} of {tally.compared}" for task, tally in tallies.items()}
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts))
