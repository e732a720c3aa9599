"""How many actors a cluster holds, decided without Ray: a frozen snapshot in, a frozen plan out.

Every pool gets at least one actor, or the pipeline could never finish a document: that is refused with the numbers.
`actors: auto` shares what is left: the pools in turn get one more until nothing fits.

An actor with `num_cpus: 1` asks Ray for a little less (`LENT`), so that actors may take every core and the light tasks
that read and commit still find room: they share the actors' cores as the operating system sees fit.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from luke_batch.annotate.annotator import StageSpec
from luke_batch.base.errors import ResourceError
from luke_batch.base.problems import Problems

LIGHT_CPUS = 0.02
"""CPUs that a light task asks for: two of them fit beside an actor on a node with one core."""
LENT = 0.05
"""Share of an actor's CPUs that is left to light tasks."""

_GRAIN = 10_000
"""Ray counts in steps of 0.0001; whole numbers of these keep sums of fractions exact."""

_GPUS = Path("/proc/driver/nvidia/gpus")
_DEVICES = Path("/dev")


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the cluster: what it has, whoever uses it now."""

    cpus: float
    gpus: float
    object_store: float = math.inf
    """Bytes of Ray's object store; without a number it is taken to be large enough."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the actors of one model ask for."""

    model: str
    """Name in `models`, for messages."""
    num_cpus: float
    num_gpus: float
    actors: Literal["auto"] | int
    cuda: bool = False
    """Whether the model asks for CUDA, whatever Ray assigns."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One actor pool of the pipeline."""

    actors: int
    num_cpus: float
    """What each actor asks Ray for: the configured number less `LENT`."""
    num_gpus: float


@dataclass(frozen=True, slots=True)
class Pools:
    """The pipeline's share of the cluster."""

    models: tuple[Pool, ...]
    """In the order of the demands."""
    light_tasks: int
    """Most tasks of one kind (reading, committing) at a time: one for each core."""


@dataclass(slots=True)
class _Room:
    """What is left of a node while actors are placed, in grains."""

    cpus: int
    devices: list[int] = field(default_factory=lambda: list[int]())

    def place(self, cpus: int, gpus: int) -> bool:
        """Take the room of one actor. A part of a GPU must fit into one device; more are whole devices."""
        if cpus > self.cpus:
            return False
        if gpus < _GRAIN:
            fitting = [number for number, left in enumerate(self.devices) if left >= gpus]
            if gpus and not fitting:
                return False
            # The fullest device that still fits, so that whole ones stay whole.
            chosen = [min(fitting, key=lambda number: self.devices[number])] if gpus else []
        else:
            whole = [number for number, left in enumerate(self.devices) if left == _GRAIN]
            chosen = whole[: gpus // _GRAIN]
            if len(chosen) < gpus // _GRAIN:
                return False
        self.cpus -= cpus
        for number in chosen:
            self.devices[number] -= min(gpus, _GRAIN)
        return True


def usable_cores() -> int:
    """Those that this process may run on (`taskset`, a batch scheduler), and with it all that it starts."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def this_node() -> Node:
    """Its cores and GPUs; in a container those whose devices it has been given."""
    gpus = len(list(_GPUS.iterdir())) if _GPUS.is_dir() else 0
    return Node(usable_cores(), max(gpus, len(list(_DEVICES.glob("nvidia[0-9]*")))))


def demands(stages: Sequence[StageSpec]) -> list[Demand]:
    """What the pools of these stages ask for."""
    return [
        Demand(stage.name, model.num_cpus, model.num_gpus, model.actors, model.device == "cuda")
        for stage, model in ((stage, stage.model) for stage in stages)
    ]


def plan_pools(nodes: Sequence[Node], asked: Sequence[Demand], items: int) -> Pools:
    """Pool sizes for `items` work items: no pool needs more actors than there are items.

    Raises ResourceError where the pools could never be scheduled on these nodes, and PreflightError where several of
    them could not.
    """
    problems = Problems()
    for demand in asked:
        with problems.noted():
            _check_one(nodes, demand)
    problems.raise_any()
    rooms = [_Room(_grains(node.cpus), [_GRAIN] * int(node.gpus)) for node in nodes]
    sizes = [0] * len(asked)
    # Actors with GPUs first, as few nodes have any; those without keep away from these nodes (see `_place`).
    order = sorted(range(len(asked)), key=lambda number: -asked[number].num_gpus)
    for number in order:
        demand = asked[number]
        for _ in range(1 if demand.actors == "auto" else demand.actors):
            if not _place(rooms, demand):
                raise ResourceError(_too_many(nodes, asked))
            sizes[number] += 1
    growing = [number for number in order if asked[number].actors == "auto"]
    while growing:
        growing = [n for n in growing if sizes[n] < items and _place(rooms, asked[n])]
        for number in growing:
            sizes[number] += 1
    pools = [
        Pool(size, round(demand.num_cpus * (1 - LENT), 4), demand.num_gpus)
        for size, demand in zip(sizes, asked, strict=True)
    ]
    return Pools(tuple(pools), max(1, int(sum(node.cpus for node in nodes))))


def check_object_store(nodes: Sequence[Node], largest_item: int) -> None:
    """Raise ResourceError where a work item of so many bytes, which every stage holds twice (what it gets and what it
    makes), exceeds the object store of every node.
    """
    room = max((node.object_store for node in nodes if node.cpus > 0), default=math.inf)
    if 2 * largest_item <= room:
        return
    raise ResourceError(
        f"output.max_bytes: the largest work item has {megabytes(largest_item)}, and a stage holds it twice,"
        f" but the largest object store of a node has {megabytes(room)}; lower output.max_bytes, or start"
        " the nodes with a larger --object-store-memory"
    )


def megabytes(count: float) -> str:
    """Bytes for a message."""
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def _place(rooms: list[_Room], demand: Demand) -> bool:
    """Put one actor on a node: one without GPU sooner than one with, then the one with most cores left."""
    cpus, gpus = _grains(demand.num_cpus), _grains(demand.num_gpus)
    by_preference = sorted(rooms, key=lambda room: (sum(room.devices) if not gpus else 0, -room.cpus))
    return any(room.place(cpus, gpus) for room in by_preference)


def _check_one(nodes: Sequence[Node], demand: Demand) -> None:
    """A single actor must fit on some node."""
    where = f"models.{demand.model}"
    if demand.cuda and not demand.num_gpus:
        # Ray hides the GPUs from a worker without one, so this would fail on every node.
        raise ResourceError(f"{where}: `device: cuda` needs `num_gpus` above 0 (1, or 0.5 to share a GPU)")
    if demand.num_gpus > 1 and demand.num_gpus != int(demand.num_gpus):
        raise ResourceError(
            f"{where}.num_gpus is {demand.num_gpus:g}: Ray splits one GPU, but takes several whole;"
            f" use {int(demand.num_gpus)}"
        )
    if demand.actors == "auto" and not demand.num_cpus and not demand.num_gpus:
        raise ResourceError(
            f"{where}: `actors: auto` counts what fits, and actors that ask for nothing fit without end;"
            f" give a number in {where}.actors, or num_cpus above 0"
        )
    if not any(node.cpus > 0 for node in nodes):
        raise ResourceError("no node of the cluster has a CPU to offer; start one with --num-cpus")
    fits = [node for node in nodes if node.cpus >= demand.num_cpus and node.gpus >= demand.num_gpus]
    if not fits:
        largest = max(nodes, key=lambda node: (node.gpus if demand.num_gpus else 0, node.cpus))
        raise ResourceError(
            f"{where}: each actor needs {_amount(demand.num_cpus, demand.num_gpus)}, and no node has both:"
            f" the largest has {_amount(largest.cpus, largest.gpus)};"
            f" lower {where}.num_cpus or {where}.num_gpus, or add a node"
        )


def _too_many(nodes: Sequence[Node], asked: Sequence[Demand]) -> str:
    counts = [1 if demand.actors == "auto" else demand.actors for demand in asked]
    parts = [
        f"{demand.model} {count} x {_amount(demand.num_cpus, demand.num_gpus)}"
        for demand, count in zip(asked, counts, strict=True)
    ]
    cpus = sum(count * demand.num_cpus for demand, count in zip(asked, counts, strict=True))
    gpus = sum(count * demand.num_gpus for demand, count in zip(asked, counts, strict=True))
    total = _amount(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes))
    nodes_text = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    return (
        f"the model actors need {_amount(cpus, gpus)} at the same time ({', '.join(parts)}),"
        f" the cluster has {total} on {nodes_text};"
        " lower num_cpus, num_gpus or actors of a model in `models`, or add nodes"
    )


def _amount(cpus: float, gpus: float) -> str:
    text = f"{cpus:g} CPU" if cpus == 1 else f"{cpus:g} CPUs"
    return text if not gpus else f"{text} and {gpus:g} GPU" + ("" if gpus == 1 else "s")


def _grains(amount: float) -> int:
    return round(amount * _GRAIN)
