"""The light tasks at both ends of the pipeline: read and prepare, commit."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import pyarrow as pa

from luke_batch.base import meters
from luke_batch.config import JobConfig
from luke_batch.corpus.commit import RunContext, commit_item
from luke_batch.corpus.fragments import WorkItem
from luke_batch.corpus.read import ReadItem, read_items
from luke_batch.corpus.statistics import Statistics
from luke_batch.corpus.storage import Storage
from luke_batch.distributed import wire
from luke_batch.distributed.results import ItemResult
from luke_batch.document.columns import ERROR
from luke_batch.document.source import rename_collisions
from luke_batch.isolation.guard import Guard
from luke_batch.isolation.streams import from_stream, to_stream

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
    reading = read_items(job.source, items, job.config.input)
    while True:
        with meters.spending("read"):
            read = next(reading, None)
        if read is None:
            return
        table = rename_collisions(read.table, job.context.written)
        table = prepare(table, job.config)
        yield wire.add_counts(wire.encode(ReadItem(read.item, table, read.failures)), "", meters.take())


def prepare(table: pa.Table, config: JobConfig) -> pa.Table:
    """The text stages over a table."""
    return from_stream(_preparation(config.model_dump_json())(to_stream(table)))


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
def _preparation(config: str) -> Guard:
    """The text stages of a configuration (as JSON), started once a worker process: a gazetteer takes seconds
    to build.
    """
    return Guard(JobConfig.model_validate_json(config), None)
