"""The tasks of an index build on Ray Data, and the build as a whole.

A task takes the number of its item and returns one line; what it makes is in files. So the object store holds next to
nothing, and the keyed merge needs no shuffle: partial aggregates lie sorted by entity, and each bucket reads its range
of them.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, cast

import pyarrow as pa

from luke_batch.base import errors
from luke_batch.base.errors import IncompleteError, InputError, LukeBatchError, OutputError
from luke_batch.distributed.preflight import is_local, refuse_local, refuse_relative
from luke_batch.index.build import BuiltIndex, Runner, Task, build, in_threads
from luke_batch.index.settings import IndexConfig
from luke_batch.index.sources import AnnotatedSources
from luke_batch.index.versions import IndexFolder

_SMALL_BYTES = 512 * 2**20
"""Work for which no local Ray is started, as that takes as long: less than half a minute of one core."""


def build_index(
    annotated: Sequence[str],
    index: str,
    config: IndexConfig,
    address: str | None = None,
    *,
    shared: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> BuiltIndex:
    """Make an index hold exactly the fragments of some annotated outputs, on Ray, or in threads of this
    process where there is little to do and no cluster to do it on.

    Args:
        annotated: outputs of `annotate`, local or `s3://`. index: local folder. config: settings. address: as
        for `annotate`. shared: local paths are mounted on every node. tell: is told each step in a line.

    Raises:
        UsageError: something cannot be used; the index is as it was.
        IncompleteError: the build was stopped; the same command goes on.
    """
    places = [("ANNOTATED", url, InputError) for url in annotated]
    refuse_relative([*places, ("INDEX", index, OutputError)], os.environ)
    return build_from(AnnotatedSources.at(annotated), IndexFolder(index), config, address, shared=shared, tell=tell)


def build_from(
    sources: AnnotatedSources,
    folder: IndexFolder,
    config: IndexConfig,
    address: str | None = None,
    *,
    shared: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> BuiltIndex:
    """The same from any sources."""
    with ExitStack() as running:

        def runner_for(work: int) -> Runner:
            if work <= _SMALL_BYTES and is_local(address):
                return in_threads
            return _RayRunner(str(folder.path), address, shared, running)

        return build(sources, folder, config, runner_for, tell)


def build_again(index: str, address: str | None = None, *, shared: bool = False) -> BuiltIndex:
    """Build an index from nothing out of the outputs that it was built from; what it held is gone afterwards.

    Raises as `build_index` does.
    """
    folder = IndexFolder(index)
    manifest = folder.searchable().manifest
    sources, config = AnnotatedSources.at(manifest.sources), IndexConfig.model_validate(manifest.config)
    with ExitStack() as running:

        def runner_for(work: int) -> Runner:
            if work <= _SMALL_BYTES and is_local(address):
                return in_threads
            return _RayRunner(str(folder.path), address, shared, running)

        return build(sources, folder, config, runner_for, afresh=True)


class _RayRunner:
    """Runs tasks on Ray."""

    def __init__(self, index: str, address: str | None, shared: bool, running: ExitStack) -> None:
        # Here, not above: a night with little work does without.
        from luke_batch.distributed.cluster import connected, nodes, stoppable

        running.enter_context(connected(address))
        running.enter_context(stoppable())
        self._cpus = [max(1.0, node.cpus) for node in nodes()]
        cure = "a folder that is mounted on every node together with --shared"
        refuse_local([("INDEX", index, OutputError)], len(self._cpus), cure, shared=shared)

    def __call__(self, task: Task, items: Sequence[Any], *, alone: bool = False) -> Iterator[str]:
        """See `Runner`. Raises what a task raises."""
        if items:
            yield from _run(task, items, max(self._cpus) if alone else 1, int(sum(self._cpus)))


def _run(task: Task, items: Sequence[Any], cpus: float, most: int) -> Iterator[str]:
    import ray.data
    from ray.data import DataContext

    from luke_batch.distributed.pipeline import blocks, giving_up, map_tables, stage_context
    from luke_batch.distributed.pipeline import task as options

    numbers = [{"number": number} for number in range(len(items))]
    arguments = {"task": task, "items": items}
    with giving_up("; the same command goes on"):
        with DataContext.current(stage_context()):
            dataset = ray.data.from_items(numbers, override_num_blocks=len(items))
            dataset = map_tables(dataset, _call, fn_kwargs=arguments, **options(cpus, min(most, len(items))))
        for rows in blocks(dataset):
            yield from map(_result, rows.to_pylist())


def _call(rows: pa.Table, task: Task, items: Sequence[Any]) -> pa.Table:
    """Run the tasks of some rows; an error that is meant for people travels as text."""
    found: list[dict[str, str | None]] = []
    for number in rows["number"].to_pylist():
        try:
            found.append({"result": task(items[number]), "kind": None, "message": None})
        except (LukeBatchError, OSError) as error:
            kind = type(error).__name__ if isinstance(error, LukeBatchError) else IncompleteError.__name__
            found.append({"result": None, "kind": kind, "message": str(error)})
    names = ("result", "kind", "message")
    return pa.table({name: pa.array([row[name] for row in found], pa.string()) for name in names})


def _result(row: dict[str, str | None]) -> str:
    if row["kind"] is None:
        return str(row["result"])
    raise cast("type[LukeBatchError]", getattr(errors, row["kind"]))(row["message"])
