"""The light tasks at both ends of the pipeline: read and prepare, commit."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from luke_batch.config import JobConfig
from luke_batch.corpus.commit import RunContext, commit_item
from luke_batch.corpus.fragments import WorkItem
from luke_batch.corpus.read import ReadItem, read_items
from luke_batch.corpus.statistics import Statistics
from luke_batch.corpus.storage import Storage
from luke_batch.distributed import wire
from luke_batch.distributed.results import ItemResult
from luke_batch.distributed.stage_names import COMMIT_STAGE, READ_STAGE, TEXT_STAGE
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
    start = time.monotonic()
    for read in read_items(job.source, items, job.config.input):
        was_read = time.monotonic()
        table = rename_collisions(read.table, job.context.written)
        table = prepare(table, job.config)
        spent = {READ_STAGE: was_read - start, TEXT_STAGE: time.monotonic() - was_read}
        yield wire.encode(ReadItem(read.item, table, read.failures), spent)
        start = time.monotonic()


def prepare(table: pa.Table, config: JobConfig) -> pa.Table:
    """The text stages over a table."""
    return from_stream(_preparation(config.model_dump_json())(to_stream(table)))


def commit(row: pa.Table, job: Job) -> pa.Table:
    """Commit the work item of a row; one that cannot be is reported and leaves the others alone."""
    start = time.monotonic()
    read = wire.decode(row)
    try:
        statistics = Statistics.of_item(read.table)
        done = commit_item(job.output, read.item, read.table, read.failures, job.context)
    except Exception as error:
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return ItemResult((), 0, message).to_row()
    spent = {**wire.spent_on(row), COMMIT_STAGE: time.monotonic() - start}
    return ItemResult(tuple(done), len(read.failures), spent=spent, statistics=statistics).to_row()


@cache
def _preparation(config: str) -> Guard:
    """The text stages of a configuration (as JSON), started once a worker process: a gazetteer takes seconds
    to build.
    """
    return Guard(JobConfig.model_validate_json(config), None)
