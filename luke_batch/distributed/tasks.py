"""The light tasks at both ends of the pipeline: read and prepare, commit."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from luke_batch.config import JobConfig
from luke_batch.corpus.commit import RunContext, commit_item
from luke_batch.corpus.fragments import WorkItem
from luke_batch.corpus.read import ReadItem, read_items
from luke_batch.corpus.storage import Storage
from luke_batch.distributed import wire
from luke_batch.distributed.isolation import isolated
from luke_batch.distributed.results import ItemResult
from luke_batch.document.source import rename_collisions
from luke_batch.preparation import Preparation

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
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    items = [WorkItem.from_json(text) for text in json.loads(row[_ITEMS][0].as_py())]
    for read in read_items(job.source, items, job.config.input):
        table = rename_collisions(read.table, job.context.written)
        table = prepare(table, job.config)
        yield wire.encode(ReadItem(read.item, table, read.failures))


def prepare(table: pa.Table, config: JobConfig) -> pa.Table:
    """The text stages over a table."""

    def work(rows: pa.Table) -> pa.Table:
        return preparation(config.model_dump_json())(rows)  # building them may fail as well

    return isolated(work, table, ["sentences"], None, "segment")


def commit(row: pa.Table, job: Job) -> pa.Table:
    """Commit the work item of a row; one that cannot be is reported and leaves the others alone."""
    read = wire.decode(row)
    try:
        done = commit_item(job.output, read.item, read.table, read.failures, job.context)
    except Exception as error:
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return ItemResult((), 0, message).to_row()
    return ItemResult(tuple(done), len(read.failures)).to_row()


@cache
def preparation(config: str) -> Preparation:
    """The text stages of a configuration (as JSON), built once a worker process: a gazetteer takes seconds to
    build.
    """
    return Preparation(JobConfig.model_validate_json(config))
