"""What annotating a corpus will cost, from a sample that is annotated in this process and timed stage by stage.
Nothing is written.

    seconds of a run   load + documents x max(slowest stage / its actors, all stages on CPUs / cores)
    bytes of output    documents x bytes of one + output files x bytes of one without rows

Each stage is timed by itself: stages on different checkpoints have actor pools of their own, of which the
slowest sets the pace, and all that runs on CPUs shares the cores.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from luke_batch.annotate.annotator import ModelStage, StageSpec, check_models, model_stages
from luke_batch.annotate.preparation import Preparation
from luke_batch.base import meters
from luke_batch.base.errors import InputError
from luke_batch.config import JobConfig
from luke_batch.corpus.output_file import to_parquet
from luke_batch.corpus.read import ReadItem, is_from_partition
from luke_batch.corpus.sample import Census, SampleSize, count, sample
from luke_batch.corpus.sources import Restriction
from luke_batch.distributed.precision import resolve_precision
from luke_batch.distributed.preflight import check_absolute
from luke_batch.distributed.resources import Demand, Node, plan_pools, this_node
from luke_batch.distributed.results import TEXT_STAGE, named
from luke_batch.document.columns import ERROR, drop_internal
from luke_batch.isolation.reading import Reader
from luke_batch.isolation.trial import footer_trial
from luke_batch.model.engine.device import pick_device

_TOGETHER = 16
"""Documents that the stages get at once: enough to fill batches, few enough to stop in time."""
_WARM_UP = 4
"""Documents that go first and do not count: a first pass touches memory that later ones find ready."""


@dataclass(slots=True)
class Measurement:
    """What a sample has shown."""

    stages: dict[str, float]
    """Stage -> seconds that it took for all documents."""
    load_seconds: float
    """Until the models were ready."""
    documents: int = 0
    dead: int = 0
    """Of these, documents that would be in the dead letters."""
    unreadable: int = 0
    """Places in files that could not be read."""
    cut_short: bool = False
    """The time was up before the sample was through."""
    document_bytes: float = 0.0
    """Of one document in an output file."""
    file_bytes: float = 0.0
    """Of an output file without rows."""

    @property
    def seconds(self) -> float:
        """Of all stages together."""
        return sum(self.stages.values())


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured sample, and the corpus that it speaks for."""

    census: Census
    measured: Measurement
    node: Node
    """This machine."""
    actors: dict[str, int]
    """Model stage -> actors that would run on it here."""
    on_cpu: tuple[str, ...]
    """Stages that share the cores."""
    peak_memory: int
    """Bytes of this process, with all models loaded."""

    @property
    def seconds_per_document(self) -> float:
        """Of all stages, one after another."""
        return self.measured.seconds / self.measured.documents

    def seconds(self, actors: int) -> float:
        """Of a run with so many actors of each model, with cores of their own, none waiting for another."""
        return self.measured.load_seconds + self.census.documents * self.seconds_per_document / actors

    @property
    def seconds_here(self) -> float:
        """Of a run on this machine."""
        spent = self.measured.stages
        pace = max(spent[name] / count for name, count in self.actors.items())
        shared = sum(spent[name] for name in self.on_cpu) / max(self.node.cpus, 1)
        scale = self.census.documents / self.measured.documents
        return self.measured.load_seconds + scale * max(pace, shared)

    @property
    def output_bytes(self) -> float:
        """Of all output files."""
        documents, files = self.census.documents, self.census.fragments
        return documents * self.measured.document_bytes + files * self.measured.file_bytes


def estimate(input: str, config: JobConfig, size: SampleSize, where: Sequence[str], seconds: float) -> Estimate:
    """Annotate a sample of INPUT and extrapolate.

    Args:
        input: INPUT. config: the job. size: of the sample. where: as for `annotate`. seconds: the sample is
        cut short after so long, the loading of models not counted.

    Raises:
        UsageError: something cannot be used, or could not run on this machine.
    """
    restriction = Restriction.parse(where)
    check_absolute(input, input, config, os.environ)
    check_models(config)
    config = resolve_precision(input, None, config, {}, restriction).config
    census = count(input, config, restriction, footer_trial(config.isolation))
    if not census.documents:
        raise InputError(f"INPUT {input} has no documents to take a sample of")
    stages = named(model_stages(config))
    node = this_node()
    demands = [Demand(name, s.model.num_cpus, s.model.num_gpus, s.model.actors) for name, s in stages.items()]
    pools = plan_pools([node], demands, census.fragments)
    with Reader(census.storage, config.input, config.isolation) as reader:
        documents = sample(census, size.of(census.documents), _TOGETHER, config, reader)
        measured = _measure(documents, config, stages, seconds)
    if not measured.documents:
        raise InputError(f"INPUT {input}: no document of the sample could be read")
    actors = {name: pool.actors for name, pool in zip(stages, pools.models, strict=True)}
    on_cpu = (TEXT_STAGE, *(name for name, spec in stages.items() if not spec.model.num_gpus))
    return Estimate(census, measured, node, actors, on_cpu, meters.peak_memory())


def _measure(
    items: Iterable[ReadItem], config: JobConfig, stages: Mapping[str, StageSpec], seconds: float
) -> Measurement:
    """Annotate items one after another, until they are done or `seconds` are over."""
    started = time.monotonic()
    ready: dict[str, Preparation | ModelStage] = {TEXT_STAGE: Preparation(config)}
    ready |= {name: _load(config, spec) for name, spec in stages.items()}
    found = Measurement(dict.fromkeys(ready, 0.0), time.monotonic() - started)
    annotated: dict[pa.Schema, list[pa.Table]] = {}
    begun = 0.0
    for read in items:
        found.unreadable += len(read.failures)
        if len(read.failures) == len(read.item.fragments):
            continue
        if not begun:
            _pass(read.table.slice(0, _WARM_UP), ready, dict(found.stages))
            begun = time.monotonic()
        elif time.monotonic() - begun > seconds:
            found.cut_short = True
            break
        table = _pass(read.table, ready, found.stages)
        found.documents += table.num_rows
        found.dead += table.num_rows - table[ERROR].null_count
        table = drop_internal(table)  # as it would be written, but failed documents stay, with nulls
        table = table.select([field.name for field in table.schema if not is_from_partition(field)])
        annotated.setdefault(table.schema, []).append(table)
    for schema, tables in annotated.items():  # written as output files are, as many documents as the sample has
        whole = pa.concat_tables(tables)
        empty = to_parquet(schema.empty_table(), config.output.compression).size
        size = to_parquet(whole, config.output.compression).size
        found.document_bytes += (size - empty) / found.documents
        found.file_bytes += empty * whole.num_rows / found.documents
    return found


def _load(config: JobConfig, spec: StageSpec) -> ModelStage:
    # As an actor does, before torch is loaded.
    os.environ["OMP_NUM_THREADS"] = str(max(1, round(spec.model.num_cpus)))
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return ModelStage(config, spec, pick_device(spec.model.device, gpu_assigned=spec.model.num_gpus > 0))


def _pass(table: pa.Table, stages: Mapping[str, Preparation | ModelStage], seconds: dict[str, float]) -> pa.Table:
    """`table` through all stages; their times are added to `seconds`."""
    for name, stage in stages.items():
        before = time.monotonic()
        table = stage(table)
        seconds[name] += time.monotonic() - before
    return table
