"""Work items through Ray Data: read and prepare -> one actor pool for each model stage -> commit.

reading row --read_and_prepare--> item --ItemActor, …--> item --commit--> result --> driver

The end is a plain `map_batches` and no `Datasink`: what a sink returns reaches the driver when everything is written,
the rows of an iterated dataset as soon as each item is committed, and so they are the progress as well. A commit is
atomic on its own (see `corpus.commit`), so nothing is lost by it.

An item costs about 50 ms of Ray beside its work (four stages, two busy cores), so it should hold seconds of work.
"""

import logging
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset, TaskPoolStrategy
from ray.exceptions import RayError

from luke_batch.base.errors import IncompleteError
from luke_batch.config import JobConfig
from luke_batch.corpus.fragments import WorkItem, reading_groups
from luke_batch.distributed.resources import LIGHT_CPUS, Pools
from luke_batch.distributed.results import ItemResult
from luke_batch.distributed.stages import ItemActor, Job, commit, read_and_prepare, reading_row

WAVE_ITEMS = 2000
"""Items that Ray is told of at once: each costs the driver a `ray.put` before anything runs."""
READ_TOGETHER = 16
"""Items of one big row group that one task reads in one pass: enough to save most of the decoding that each item would
repeat, few enough that many tasks prepare texts side by side.
"""

_RETRIES = 3
"""Further attempts at a row whose worker died. Ray Data's own default is without end, so that a document that kills its
process would be tried for ever. Restarts of an actor stay without limit: with machines that come and go, each loss
costs one.
"""
_NO_PROGRESS_SECONDS = 4 * 3600
"""After so long without one finished item a run is given up. The longest sound silence is one item of a large
checkpoint on a slow core, which may take an hour; pools that could never start are refused long before.
"""


def process(job: Job, items: Sequence[WorkItem], pools: Pools) -> Generator[ItemResult]:
    """Annotate and commit `items`; one result for each, as they finish.

    Closing the iterator early stops the work. Raises IncompleteError where Ray gives up, such as for a worker that
    cannot be kept alive.
    """
    with giving_up():
        for start in range(0, len(items), WAVE_ITEMS):
            for rows in blocks(_wave(job, items[start : start + WAVE_ITEMS], pools)):
                yield from ItemResult.from_rows(rows)


@contextmanager
def giving_up(advice: str = "") -> Generator[None]:
    """In this block Ray's errors are IncompleteErrors, which end with `advice`."""
    try:
        yield
    except RayError as error:
        raise IncompleteError(f"Ray gave up: {_cause_of(error)}{advice}") from error


def blocks(dataset: Dataset) -> Iterator[pa.Table]:
    """Run a dataset of ours; its blocks, as they are done."""
    # What concerns a person, luke-batch says itself; Ray Data's messages are in its log file.
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":
            handler.setLevel(logging.CRITICAL)
    found = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    return iter(cast("Iterator[pa.Table]", found))


def map_tables(dataset: Dataset, function: Any, rows: int | None = None, **options: Any) -> Dataset:
    """`map_batches` over Arrow tables of `rows` rows, or block by block."""
    with warnings.catch_warnings():
        # The only way to set retries until Ray 2.64, which is why it is pinned below that.
        warnings.filterwarnings("ignore", message=".*ray_remote_args", category=DeprecationWarning)
        return dataset.map_batches(function, batch_size=rows, batch_format="pyarrow", **options)


def task(num_cpus: float, most: int | None = None) -> dict[str, Any]:
    """Options of a stage of plain tasks, at most `most` at a time."""
    return {"num_cpus": num_cpus, "compute": TaskPoolStrategy(size=most), "max_retries": _RETRIES}


def models(dataset: Dataset, actor: type, rows: int, config: JobConfig, pools: Pools) -> Dataset:
    """Every model stage over `dataset`, in actors that get so many rows at a time; each pool has its full size from
    the start.
    """
    for number, pool in enumerate(pools.models):
        dataset = map_tables(
            dataset,
            actor,
            rows,
            fn_constructor_kwargs={"config": config, "stage": number},
            num_cpus=pool.num_cpus,
            num_gpus=pool.num_gpus or None,
            compute=ActorPoolStrategy(size=pool.actors),
            max_task_retries=_RETRIES,
        )
    return dataset


def _wave(job: Job, items: Sequence[WorkItem], pools: Pools) -> Dataset:
    rows = [
        reading_row(group[first : first + READ_TOGETHER])
        for group in reading_groups(items)
        for first in range(0, len(group), READ_TOGETHER)
    ]
    # Ray warns of a limit above the number of inputs.
    most = min(pools.light_tasks, len(rows))
    # A copy, as the process may hold somebody else's settings; a dataset keeps those that it was made under.
    with DataContext.current(stage_context()):
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
        dataset = map_tables(dataset, read_and_prepare, fn_kwargs={"job": job}, **task(LIGHT_CPUS, most))
        # Every block has one row as it is; Ray asks for a number wherever there is a GPU.
        dataset = models(dataset, ItemActor, 1, job.config, pools)
        return map_tables(dataset, commit, fn_kwargs={"job": job}, **task(LIGHT_CPUS, most))


def stage_context() -> DataContext:
    """Settings of our own datasets, whatever else the process does with Ray Data."""
    context = DataContext.get_current().copy()
    # Below the size of any row, so that every row is a block of its own: a reading task hands on each item at once.
    context.target_max_block_size = 1
    context.max_errored_blocks = 0
    context.max_consecutive_actor_init_deaths = 1
    context.execution_no_progress_timeout_s = _NO_PROGRESS_SECONDS
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context


def _cause_of(error: RayError) -> str:
    """The line that says why, out of a message with the tracebacks of several processes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("luke_batch.base.errors.")]
    line = ours[0].removeprefix("luke_batch.base.errors.") if ours else (lines or ["no message"])[-1]
    return f"{type(error).__name__}: {line}"
