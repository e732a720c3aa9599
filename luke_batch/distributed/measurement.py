"""A sample of documents, annotated in this process and timed stage by stage. Nothing is written."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from luke_batch.annotate.annotator import ModelStage, StageSpec
from luke_batch.annotate.preparation import Preparation
from luke_batch.config import JobConfig
from luke_batch.corpus.fragments import WorkItem
from luke_batch.corpus.output_file import VECTORS, to_parquet
from luke_batch.corpus.partition_columns import is_from_partition
from luke_batch.corpus.read import read_item
from luke_batch.corpus.storage import Storage
from luke_batch.document.columns import ERROR, drop_internal
from luke_batch.document.source import rename_collisions
from luke_batch.model.engine.device import pick_device

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


def measure(
    storage: Storage,
    items: Sequence[WorkItem],
    config: JobConfig,
    stages: Sequence[tuple[str, StageSpec | None]],
    seconds: float,
) -> Measurement:
    """Annotate `items` one after another, until they are done or `seconds` are over.

    Args:
        storage: of INPUT. items: the sample. config: the job. stages: names of the stages in their order,
        with the model's specification, None for the text stage. seconds: without the loading of models.

    Raises:
        UsageError: a checkpoint or a device cannot be used.
    """
    started = time.monotonic()
    ready = [(name, _load(config, spec)) for name, spec in stages]
    found = Measurement({name: 0.0 for name, _ in ready}, time.monotonic() - started)
    annotated: dict[pa.Schema, list[pa.Table]] = {}
    begun = 0.0
    for item in items:
        read = read_item(storage, item, config.input)
        found.unreadable += len(read.failures)
        if len(read.failures) == len(item.fragments):
            continue
        table = rename_collisions(read.table, config.columns)
        if not begun:
            _pass(table.slice(0, _WARM_UP), ready, dict(found.stages))
            begun = time.monotonic()
        elif time.monotonic() - begun > seconds:
            found.cut_short = True
            break
        table = _pass(table, ready, found.stages)
        found.documents += table.num_rows
        found.dead += table.num_rows - table[ERROR].null_count
        table = _as_written(table)
        annotated.setdefault(table.schema, []).append(table)
    _add_sizes(found, annotated, config.output.compression)
    return found


def _load(config: JobConfig, spec: StageSpec | None) -> Preparation | ModelStage:
    if spec is None:
        return Preparation(config)
    # As an actor does, before torch is loaded.
    os.environ["OMP_NUM_THREADS"] = str(max(1, round(spec.model.num_cpus)))
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return ModelStage(config, spec, pick_device(spec.model.device, gpu_assigned=spec.model.num_gpus > 0))


def _pass(
    table: pa.Table, stages: Sequence[tuple[str, Preparation | ModelStage]], seconds: dict[str, float]
) -> pa.Table:
    """`table` through all stages; their times are added to `seconds`."""
    for name, stage in stages:
        before = time.monotonic()
        table = stage(table)
        seconds[name] += time.monotonic() - before
    return table


def _as_written(table: pa.Table) -> pa.Table:
    """The columns of an output file. Failed documents stay, with nulls."""
    table = drop_internal(table)
    return table.select([field.name for field in table.schema if not is_from_partition(field)])


def _add_sizes(found: Measurement, annotated: dict[pa.Schema, list[pa.Table]], compression: str) -> None:
    """Written as output files are, as many documents together as the sample has."""
    for schema, tables in annotated.items():
        rows = sum(table.num_rows for table in tables)
        empty = to_parquet(schema.empty_table(), VECTORS, compression).size
        whole = to_parquet(pa.concat_tables(tables), VECTORS, compression).size
        found.document_bytes += (whole - empty) / found.documents
        found.file_bytes += empty * rows / found.documents
