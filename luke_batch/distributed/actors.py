"""A loaded checkpoint as an actor: Arrow tables in, annotated Arrow tables out.

The checkpoint itself is in a child process of the actor (see `isolation`), so that a document which ends its
process does not end the actor, whose other work Ray would have to find again.
"""

import os
import sys
import time

import pyarrow as pa
import ray

from luke_batch.annotate.annotator import model_stages
from luke_batch.base import meters
from luke_batch.base.errors import DeviceError
from luke_batch.config import JobConfig
from luke_batch.distributed import wire
from luke_batch.distributed.metrics import export
from luke_batch.distributed.stage_names import named
from luke_batch.isolation.guard import Guard
from luke_batch.isolation.streams import from_stream, to_stream


class TableActor:
    """One model stage of a job; loads its checkpoint when it starts."""

    def __init__(self, config: JobConfig, stage: int) -> None:
        self._since = time.perf_counter()
        self._model, spec = list(named(model_stages(config)).items())[stage]
        threads = max(1, round(spec.model.num_cpus))
        self._guard = Guard(config, stage, gpu_assigned=gpu_assigned(), threads=threads)
        self._answered = time.perf_counter()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Run the heads over a prepared table."""
        done = from_stream(self.annotate(to_stream(table)))
        export({self._model: self._counts()})
        return done

    def annotate(self, stream: pa.Buffer) -> pa.Buffer:
        """The same for a stream of `isolation.streams`. An actor whose GPU is lost ends, as after a crash:
        Ray starts another in its place, which tries the table again.
        """
        meters.count(meters.SECONDS, time.perf_counter() - self._answered, "waiting")
        try:
            return self._guard(stream)
        except DeviceError as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
            os._exit(1)  # SystemExit would be caught on its way, or taken for an end that was wanted

    def _counts(self) -> meters.Counts:
        """What was counted since the last call, and the time that this actor has been there since then."""
        self._answered = time.perf_counter()
        meters.count("actor_seconds", self._answered - self._since)
        self._since = self._answered
        return meters.take()


class ItemActor(TableActor):
    """The same for rows of `wire`: one work item each."""

    def __call__(self, row: pa.Table) -> pa.Table:
        """Annotate the table inside a row."""
        annotated = wire.replace_table(row, self.annotate(wire.stream_of(row)))
        return wire.add_counts(annotated, self._model, self._counts())


def gpu_assigned() -> bool:
    """Whether Ray assigned a GPU, or a part of one, to this worker."""
    return bool(ray.get_runtime_context().get_accelerator_ids().get("GPU"))
