"""Runs a command once an autoscaling cluster has grown to what the job needs, and lets it shrink afterwards.

    python scaled.py 4x8 2x4+1 -- luke-batch annotate s3://news/ s3://news-annotated/ --config job.yaml

asks for 4 nodes with 8 CPUs and 2 with 4 CPUs and 1 GPU. luke-batch plans its actors on the nodes that are
there when it starts, and refuses what does not fit, so the nodes have to come first.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

_MINUTES = 20
_POLL_SECONDS = 5.0


def bundles(specifications: Sequence[str]) -> list[dict[str, int]]:
    """One bundle of resources for each node of `NODESxCPUS[+GPUS]`."""
    found: list[dict[str, int]] = []
    for text in specifications:
        nodes, _, shape = text.partition("x")
        cpus, _, gpus = shape.partition("+")
        found += [{"CPU": int(cpus), **({"GPU": int(gpus)} if gpus else {})}] * int(nodes)
    return found


def are_there(wanted: Sequence[Mapping[str, int]], nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each bundle has a node of its own that is alive and holds it."""
    free = [node["Resources"] for node in nodes if node["Alive"]]
    # The most demanding first, and each on the smallest node that holds it.
    for bundle in sorted(wanted, key=lambda one: (one.get("GPU", 0), one["CPU"]), reverse=True):
        fitting = [node for node in free if all(node.get(name, 0) >= n for name, n in bundle.items())]
        if not fitting:
            return False
        free.remove(min(fitting, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0))))
    return True


def main(arguments: Sequence[str]) -> int:
    """The exit code of the command; 4 where the nodes do not come."""
    split = arguments.index("--")
    wanted = bundles(arguments[:split])
    ray.init(address="auto", log_to_driver=False)
    try:
        request_resources(bundles=wanted)
        deadline = time.monotonic() + 60 * _MINUTES
        while not are_there(wanted, ray.nodes()):
            if time.monotonic() > deadline:
                sys.stderr.write(f"error: the cluster has not grown to {wanted} in {_MINUTES} minutes\n")
                return 4
            time.sleep(_POLL_SECONDS)
        return subprocess.run(arguments[split + 1 :], check=False).returncode  # noqa: S603 - the job's own
    finally:
        request_resources(bundles=[])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
