"""What would stop a run once it has begun, looked for before any work: cluster, disks, object store, and what each node
sees of INPUT, OUTPUT and models. All problems are reported at once, and nothing is written.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from luke_batch.annotate.annotator import model_stages, vector_type
from luke_batch.base.errors import ConfigError, InputError, OutputError, ResourceError, UsageError
from luke_batch.base.problems import Problems
from luke_batch.config import EMBEDDED, EmbeddingsConfig, JobConfig
from luke_batch.config.fingerprint import installed
from luke_batch.corpus.access import check_folder_space, check_space, probe_output
from luke_batch.corpus.plan import Plan
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.resources import Node, Pools, check_object_store, demands, plan_pools, this_node
from luke_batch.model.files.checkpoint import resolve_model
from luke_batch.model.files.fetch import is_relative as is_relative_model

Place = tuple[str, str, type[UsageError]]
"""A name on the command line or in the configuration, what it has, and the error where that is wrong."""

_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this variable for the entry point of a submitted job, and for nothing else."""
_PROBE_SECONDS = 120.0
"""After which a node that has not answered is refused: a probe asks for no CPU, so a busy one answers, too."""
_MANY = 1_000_000
"""Work items of a plan that could not be made."""


def check_absolute(input: str, output: str, config: JobConfig, environment: Mapping[str, str]) -> None:
    """Refuse relative paths in a submitted job: its working directory is an unpacked copy, removed afterwards."""
    places: list[Place] = [("INPUT", input, InputError), ("OUTPUT", output, OutputError)]
    models = {head.model: config.model_of(head).path for head in config.heads}
    places += [(f"models.{name}.path", path, ConfigError) for name, path in models.items() if is_relative_model(path)]
    gazetteer, aliases = config.proposers.gazetteer, config.proposers.aliases.path
    if gazetteer is not None:
        places.append(("proposers.gazetteer.path", gazetteer.path, ConfigError))
    if config.uses_aliases and aliases != EMBEDDED:
        places.append(("proposers.aliases.path", aliases, ConfigError))
    refuse_relative(places, environment)


def refuse_relative(places: Sequence[Place], environment: Mapping[str, str]) -> None:
    """Raise the errors of all places that are relative, in a submitted job."""
    cure = "a submitted job runs in a temporary copy of its working directory; give an absolute path or an s3:// URL"
    if _SUBMITTED in environment:
        _refuse([place for place in places if is_relative(place[1])], "is relative, but " + cure)


def refuse_local(places: Sequence[Place], nodes: int, cure: str, *, shared: bool) -> None:
    """Raise the errors of all local places, on a cluster of several nodes, unless the user says that all see them."""
    if nodes > 1 and not shared:
        local = [place for place in places if Storage.at(place[1]).is_local]
        _refuse(local, f"is a local path, but the cluster has {nodes} nodes; use {cure}")


def _refuse(places: Sequence[Place], reason: str) -> None:
    problems = Problems()
    for name, path, kind in places:
        problems.add(kind(f"{name} {path} {reason}"))
    problems.raise_any()


def is_relative(path: str) -> bool:
    """Whether a location depends on the working directory."""
    return "://" not in path and not Path(path).expanduser().is_absolute()


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
            _check_reachable(input, output, config, len(found))
        _check_scheduling(found, config, plan, problems)


def check_cluster(plan: Plan, config: JobConfig, problems: Problems) -> Pools:
    """Size the pools on the cluster that this process is connected to, once it is known that they can work.

    Args:
        plan: what is to be done. config: the job, with checkpoints that mean the same on every node.
        problems: what is known; raised with what is found here.
    """
    from luke_batch.distributed.cluster import check_devices, nodes

    found = nodes()
    with problems.noted():
        _check_reachable(plan.source.url, plan.output.url, config, len(found))
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


def _check_reachable(input: str, output: str, config: JobConfig, nodes: int) -> None:
    cure = "an s3:// URL, or a folder that is mounted on every node together with --set output.shared=true"
    places: list[Place] = [("INPUT", input, InputError), ("OUTPUT", output, OutputError)]
    refuse_local(places, nodes, cure, shared=config.output.shared)


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


def probe_nodes(plan: Plan, config: JobConfig, problems: Problems) -> None:
    """Ask every node that is alive, all at once, and note what is wrong there."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    wanted = plan.items[0].fragments[0].source
    probe = ray.remote(num_cpus=0, max_retries=1)(_probe)
    alive = [node for node in cast("list[dict[str, Any]]", ray.nodes()) if node["Alive"]]
    asked = [
        probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)).remote(
            plan.source, wanted, plan.output, config.to_json(), installed()
        )
        for node in alive
    ]
    end = time.monotonic() + _PROBE_SECONDS
    for node, reference in zip(alive, asked, strict=True):
        try:
            found = ray.get(reference, timeout=max(0.0, end - time.monotonic()))
        except GetTimeoutError:
            found = [f"no answer for {_PROBE_SECONDS:.0f} s; look at that node, or take it out of the cluster"]
        except RayError as error:
            cause = (str(error).splitlines() or [""])[-1]
            found = [f"a probe failed: {type(error).__name__}: {cause}; look at that node's logs"]
        for problem in found:
            problems.add(ResourceError(f"node {node['NodeManagerAddress']}: {problem}"))


def other_versions(driver: Mapping[str, str], node: Mapping[str, str]) -> list[str]:
    """One line on what a node has in another version than the driver; none where all is the same."""
    others = [
        f"{name} {node.get(name, 'none')} instead of {wanted}"
        for name, wanted in driver.items()
        if node.get(name) != wanted
    ]
    cure = "install on every node what the driver has, or run all nodes from one image"
    return [f"it has {', '.join(others)}; {cure}"] if others else []


def _probe(source: Storage, wanted: str, output: Storage, config: str, versions: Mapping[str, str]) -> list[str]:
    """Runs on a node: what is wrong there, one line each. `versions`: of the driver, see `installed`."""
    found = other_versions(versions, installed())
    try:
        if source.stat(wanted) is None:
            found.append(f"INPUT {source.url} has no {wanted} there; mount it on every node")
    except OSError as error:
        found.append(f"INPUT {source.url} cannot be read: {error}; check mounts and credentials there")
    try:
        probe_output(output)
    except UsageError as error:
        found.append(str(error))
    job = JobConfig.from_json(config)
    for model in {job.model_of(head).path: job.model_of(head) for head in job.heads}.values():
        if not Path(model.path).is_absolute():
            continue  # every node can load it by itself, and a download is not asked for here
        try:
            resolve_model(model)
        except UsageError as error:
            found.append(str(error))
    return found
