"""The same annotation inside someone's own Ray Data pipeline: plain Arrow tables, no plan and no commit."""

import sys
from dataclasses import replace

import pyarrow as pa
import ray
from ray.data import Dataset

from luke_batch.annotate.annotator import check_models, model_stages, pinned, with_error
from luke_batch.base import meters
from luke_batch.base.errors import FragmentError, InputError
from luke_batch.config import JobConfig
from luke_batch.corpus.checks import check_source
from luke_batch.distributed.actors import TableActor
from luke_batch.distributed.cluster import check_devices, nodes
from luke_batch.distributed.locations import with_pinned_tables
from luke_batch.distributed.metrics import export
from luke_batch.distributed.pipeline import actor_pool, map_tables, task
from luke_batch.distributed.planning import table_hashes
from luke_batch.distributed.resources import Node, demands, plan_pools
from luke_batch.distributed.tasks import prepare
from luke_batch.document.source import rename_collisions

_ROWS = 256
"""Documents that an actor gets at a time: enough for full batches, few enough to share between actors."""
_TASK_CPUS = 0.25
"""CPUs of a task beside the actors: more than in our own pipeline, as nothing else bounds how many run at
once.
"""


def annotate_dataset(ds: Dataset, config: JobConfig) -> Dataset:
    """`ds` with its annotation columns and `error`, lazily: nothing runs before the result is consumed.

    A row that fails keeps null annotations and says why in `error` (struct<stage, error_class, message>, null
    elsewhere). `actors: auto` leaves one CPU to the stages before and after.

    Raises a UsageError where the configuration, a checkpoint or the cluster cannot be used.
    """
    config = pinned(with_pinned_tables(config, table_hashes(config)), check_models(config))
    _check_schema(ds, config)
    if not ray.is_initialized():
        ray.init()
    stages = model_stages(config)
    pools = plan_pools(_leaving_one_cpu(nodes()), demands(stages), items=sys.maxsize)
    check_devices(stages)
    ds = map_tables(ds, _prepare, fn_kwargs={"config": config}, **task(_TASK_CPUS))
    for number, pool in enumerate(pools.models):
        arguments = {"config": config, "stage": number}
        ds = map_tables(ds, TableActor, _ROWS, fn_constructor_kwargs=arguments, **actor_pool(pool))
    return map_tables(ds, with_error, **task(_TASK_CPUS))


def _prepare(table: pa.Table, config: JobConfig) -> pa.Table:
    table = rename_collisions(table, {*config.columns, "error"})
    prepared = prepare(table, config)
    export({"": meters.take()})
    return prepared


def _check_schema(ds: Dataset, config: JobConfig) -> None:
    """Refuse a wrong column where Ray knows the schema without running anything."""
    schema = ds.schema(fetch_if_missing=False)
    if schema is None or not isinstance(schema.base_schema, pa.Schema):
        return
    try:
        check_source(schema.base_schema, config, "the dataset")
    except FragmentError as error:
        raise InputError(str(error)) from error


def _leaving_one_cpu(found: tuple[Node, ...]) -> list[Node]:
    """The other stages of a pipeline ask for one CPU a task: with none left they would wait for ever."""
    largest = max(range(len(found)), key=lambda number: found[number].cpus)
    return [
        replace(node, cpus=max(node.cpus - 1, 0)) if number == largest else node for number, node in enumerate(found)
    ]
