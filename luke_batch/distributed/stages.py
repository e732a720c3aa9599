"""What Ray runs in its workers: light tasks that read and prepare or commit, and actors that hold a checkpoint.

The checkpoint itself is in a child process of the actor (see `isolation`), so that a document which ends its process
does not end the actor, whose other work Ray would have to find again.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import pyarrow as pa
import ray

from luke_batch.annotate.annotator import model_stages
from luke_batch.base import meters
from luke_batch.base.errors import DeviceError
from luke_batch.config import InputConfig, IsolationConfig, JobConfig
from luke_batch.corpus.commit import RunContext, commit_item
from luke_batch.corpus.fragments import WorkItem
from luke_batch.corpus.read import ReadItem
from luke_batch.corpus.statistics import Statistics
from luke_batch.corpus.storage import Storage
from luke_batch.distributed import wire
from luke_batch.distributed.metrics import export
from luke_batch.distributed.results import ItemResult, named
from luke_batch.document.columns import ERROR
from luke_batch.document.source import rename_collisions
from luke_batch.isolation.guard import Guard
from luke_batch.isolation.messages import from_stream, to_stream
from luke_batch.isolation.reading import Reader

_ITEMS = "items"


@dataclass(frozen=True, slots=True)
class Job:
    """What every task of a run is told."""

    config: JobConfig
    source: Storage
    output: Storage
    context: RunContext


def reading_row(items: Sequence[WorkItem]) -> dict[str, str]:
    """Work items that one task reads in one pass, as a Ray row."""
    return {_ITEMS: json.dumps([item.to_json() for item in items])}


def read_and_prepare(row: pa.Table, job: Job) -> Iterator[pa.Table]:
    """The work items of a `reading_row`, each as one row of `wire`, prepared."""
    items = [WorkItem.from_json(text) for text in json.loads(row[_ITEMS][0].as_py())]
    reader = _reader(job.source.url, job.config.input.model_dump_json(), job.config.isolation.model_dump_json())
    for read in reader(items):
        table = rename_collisions(read.table, job.context.written)
        table = prepare(table, job.config)
        yield wire.add_counts(wire.encode(ReadItem(read.item, table, read.failures)), "", meters.take())


def prepare(table: pa.Table, config: JobConfig) -> pa.Table:
    """The text stages over a table."""
    return from_stream(_preparation(config.to_json())(to_stream(table)))


def commit(row: pa.Table, job: Job) -> pa.Table:
    """Commit the work item of a row; one that cannot be is reported and leaves the others alone."""
    with meters.spending("commit"):
        result = _commit(wire.decode(row), job)
    readings = wire.readings_of(wire.add_counts(row, "", meters.take()))
    return replace(result, readings=readings).to_row()


def _commit(read: ReadItem, job: Job) -> ItemResult:
    try:
        statistics = Statistics.of_item(read.table)
        done = commit_item(job.output, read.item, read.table, read.failures, job.context)
    except Exception as error:
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return ItemResult((), 0, message)
    _count(read)
    return ItemResult(tuple(done), len(read.failures), statistics=statistics)


def _count(read: ReadItem) -> None:
    """Count what was found, and what is now in the dead letters by its reason."""
    for column in ("mentions", "relations"):
        if column in read.table.column_names:
            lists = read.table[column].combine_chunks()
            meters.count(column, len(lists.flatten()))
    errors = [row["error_class"] for row in read.table[ERROR].to_pylist() if row is not None]
    for name, count in Counter([*errors, *(failure.error_class for failure in read.failures)]).items():
        meters.count("dead_letters", count, name)


@cache
def _reader(source: str, input: str, isolation: str) -> Reader:
    """What reads INPUT, started once a process."""
    settings = IsolationConfig.model_validate_json(isolation)
    return Reader(Storage.at(source), InputConfig.model_validate_json(input), settings)


@cache
def _preparation(config: str) -> Guard:
    """The text stages of a configuration (as JSON), started once a process: a gazetteer takes seconds to build."""
    return Guard(JobConfig.from_json(config), None)


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
        """The same for a stream of `isolation.messages`. An actor whose GPU is lost ends, as after a crash: Ray starts
        another in its place, which tries the table again.
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
