"""What annotating a corpus will cost, from a sample that is annotated in this process. Nothing is written.

    seconds of a run   load + documents x max(slowest stage / its actors, all stages on CPUs / cores)
    bytes of output    documents x bytes of one + output files x bytes of one without rows

Each stage is timed by itself: stages on different checkpoints have actor pools of their own, of which the
slowest sets the pace, and all that runs on CPUs shares the cores.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from luke_batch.annotate.annotator import check_models, model_stages
from luke_batch.base import meters
from luke_batch.base.errors import InputError
from luke_batch.config import JobConfig
from luke_batch.corpus.fragments import pack
from luke_batch.corpus.restriction import Restriction
from luke_batch.corpus.sample import Census, SampleSize, count, draw
from luke_batch.distributed.measurement import Measurement, measure
from luke_batch.distributed.precision import resolve_precision
from luke_batch.distributed.preflight import check_absolute
from luke_batch.distributed.resources import Demand, Node, plan_pools, this_node
from luke_batch.distributed.results import TEXT_STAGE, named

SAMPLE_SECONDS = 60.0
"""After which a sample is cut short, unless told otherwise."""
_SEED = 0
_TOGETHER = 16
"""Documents that the stages get at once: enough to fill batches, few enough to stop in time."""


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


def estimate(
    input: str,
    config: JobConfig,
    size: SampleSize,
    *,
    where: Sequence[str] = (),
    seconds: float = SAMPLE_SECONDS,
) -> Estimate:
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
    census = count(input, config, restriction)
    if not census.documents:
        raise InputError(f"INPUT {input} has no documents to take a sample of")
    stages = named(model_stages(config))
    node = this_node()
    demands = [Demand(name, s.model.num_cpus, s.model.num_gpus, s.model.actors) for name, s in stages.items()]
    pools = plan_pools([node], demands, census.fragments)
    items = pack(draw(census, size.of(census.documents), _SEED), _TOGETHER, config.output.max_bytes)
    ordered = [(TEXT_STAGE, None), *stages.items()]
    measured = measure(census.storage, items, config, ordered, seconds)
    if not measured.documents:
        raise InputError(f"INPUT {input}: no document of the sample could be read")
    actors = {name: pool.actors for name, pool in zip(stages, pools.models, strict=True)}
    on_cpu = (TEXT_STAGE, *(name for name, spec in stages.items() if not spec.model.num_gpus))
    return Estimate(census, measured, node, actors, on_cpu, meters.peak_memory())
