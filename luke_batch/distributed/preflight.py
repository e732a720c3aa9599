"""What would stop a run once it has begun, looked for before any work: cluster, disks, object store, and what
each node sees of INPUT, OUTPUT and models. All problems are reported at once, and nothing is written.
"""

import os
import sys
import tempfile
from collections.abc import Sequence

from luke_batch.annotate.annotator import model_stages, vector_type
from luke_batch.base.errors import OutputError
from luke_batch.base.problems import Problems
from luke_batch.config import EmbeddingsConfig, JobConfig
from luke_batch.corpus.access import check_folder_space, check_space, probe_output
from luke_batch.corpus.plan import Plan
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.local_node import this_node
from luke_batch.distributed.locations import check_reachable
from luke_batch.distributed.resources import Node, Pools, check_object_store, demands, plan_pools

_MANY = 1_000_000
"""Work items of a plan that could not be made."""


def check_places(plan: Plan, config: JobConfig, address: str | None, problems: Problems) -> None:
    """Note what is wrong with the disks and with writing to OUTPUT; no Ray."""
    with problems.noted():
        probe_output(plan.output)
    with problems.noted():
        check_space(plan, _vector_bytes(config))
    if is_local(address):
        with problems.noted():
            check_folder_space(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "Ray's folder")


def check_broken(
    config: JobConfig, input: str, output: str, address: str | None, plan: Plan | None, problems: Problems
) -> None:
    """Note what else is wrong with a job that cannot run anyway; a local Ray is not started for that.

    Args:
        config, input, output, address: the job. plan: None where it could not be made. problems: what is
        known.
    """
    if plan is None and not any(isinstance(problem, OutputError) for problem in problems.found):
        with problems.noted():
            probe_output(Storage.at(output))
    if is_local(address):
        _check_scheduling([this_node()], config, plan, problems)
        return
    from luke_batch.distributed.cluster import connected, nodes

    with problems.noted(), connected(address):
        found = nodes()
        with problems.noted():
            check_reachable(Storage.at(input), Storage.at(output), config.output, len(found))
        _check_scheduling(found, config, plan, problems)


def check_cluster(plan: Plan, config: JobConfig, problems: Problems) -> Pools:
    """Size the pools on the cluster that this process is connected to, once it is known that they can work.

    Args:
        plan: what is to be done. config: the job, with checkpoints that mean the same on every node.
        problems: what is known; raised with what is found here.
    """
    from luke_batch.distributed.cluster import check_devices, nodes
    from luke_batch.distributed.node_probe import probe_nodes

    found = nodes()
    with problems.noted():
        check_reachable(plan.source, plan.output, config.output, len(found))
    pools = _check_scheduling(found, config, plan, problems)
    if pools is not None:  # else a probe that asks for a GPU would wait for ever
        with problems.noted():
            check_devices(model_stages(config))
    if len(found) > 1 and not problems:
        probe_nodes(plan, config, problems)
    problems.raise_any()
    assert pools is not None
    return pools


def is_local(address: str | None) -> bool:
    """Whether a run with this address starts a Ray of its own."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return False
    return (address or os.environ.get("RAY_ADDRESS") or "local") == "local"


def _check_scheduling(nodes: Sequence[Node], config: JobConfig, plan: Plan | None, problems: Problems) -> Pools | None:
    """The pools; None, and a note, where they do not fit."""
    pools: list[Pools] = []
    with problems.noted():
        pools.append(plan_pools(nodes, demands(model_stages(config)), _MANY if plan is None else len(plan.items)))
    if plan is not None:
        sizes = [sum(part.bytes for part in item.fragments) for item in plan.items]
        with problems.noted():
            check_object_store(nodes, max(sizes, default=0))
    return pools[0] if pools else None


def _vector_bytes(config: JobConfig) -> int:
    """Bytes of the text vector that the job writes for each document."""
    if not any(isinstance(head, EmbeddingsConfig) and "text" in head.of for head in config.heads):
        return 0
    kind = vector_type(config)
    return 0 if kind is None else kind.list_size * kind.value_type.bit_width // 8
