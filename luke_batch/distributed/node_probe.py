"""What each node of a cluster sees: INPUT, OUTPUT and the folders of models. A folder that is mounted on some
nodes only would fail documents there, and only there.
"""

from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from luke_batch.base.errors import ResourceError, UsageError
from luke_batch.base.problems import Problems
from luke_batch.config import JobConfig
from luke_batch.corpus.access import probe_output
from luke_batch.corpus.plan import Plan
from luke_batch.corpus.storage import Storage
from luke_batch.model.files.checkpoint import resolve_model

_SECONDS = 120.0
"""After which a node that has not answered is left to Ray: a busy cluster is no mistake of the user's."""


def probe_nodes(plan: Plan, config: JobConfig, problems: Problems) -> None:
    """Ask every node that is alive, all at once, and note what is wrong there."""
    wanted = plan.items[0].fragments[0].source
    probe = ray.remote(num_cpus=0, max_retries=1)(_probe)
    alive = [node for node in cast("list[dict[str, Any]]", ray.nodes()) if node["Alive"]]
    asked = [
        probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)).remote(
            plan.source, wanted, plan.output, config.model_dump_json()
        )
        for node in alive
    ]
    for node, reference in zip(alive, asked, strict=True):
        try:
            found = ray.get(reference, timeout=_SECONDS)
        except GetTimeoutError:
            continue
        except RayError as error:
            cause = (str(error).splitlines() or [""])[-1]
            found = [f"a probe failed: {type(error).__name__}: {cause}; look at that node's logs"]
        for problem in found:
            problems.add(ResourceError(f"node {node['NodeManagerAddress']}: {problem}"))


def _probe(source: Storage, wanted: str, output: Storage, config: str) -> list[str]:
    """Runs on a node: what is wrong there, one line each."""
    found: list[str] = []
    try:
        if source.stat(wanted) is None:
            found.append(f"INPUT {source.url} has no {wanted} there; mount it on every node")
    except OSError as error:
        found.append(f"INPUT {source.url} cannot be read: {error}; check mounts and credentials there")
    try:
        probe_output(output)
    except UsageError as error:
        found.append(str(error))
    job = JobConfig.model_validate_json(config)
    for model in {job.model_of(head).path: job.model_of(head) for head in job.heads}.values():
        if not Path(model.path).is_absolute():
            continue  # every node can load it by itself, and a download is not asked for here
        try:
            resolve_model(model)
        except UsageError as error:
            found.append(str(error))
    return found
