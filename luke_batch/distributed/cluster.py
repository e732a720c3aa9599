"""Connects to a Ray cluster, or starts a local one for the length of a run."""

import logging
import os
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any, cast

import ray
from ray.exceptions import RayTaskError

from luke_batch.annotate.annotator import StageSpec
from luke_batch.base.errors import ResourceError, UsageError
from luke_batch.base.problems import Problems
from luke_batch.distributed.actors import gpu_assigned
from luke_batch.distributed.local_node import usable_cores
from luke_batch.distributed.resources import Node
from luke_batch.model.engine.device import pick_device

_CONNECT_SECONDS = 10
"""Ray itself tries an address at which nobody listens for more than a minute."""

_IDLE_WORKER_MS = str(3600 * 1000)

_ANOTHER = "start one (ray start --head), correct --address or RAY_ADDRESS, or use --address local"
_START_ATTEMPTS = 2
"""A local Ray gives its own processes 30 seconds, which a busy machine may not keep."""


@contextmanager
def connected(address: str | None) -> Generator[None]:
    """A connection to Ray: the one that this process has, else `address`, else RAY_ADDRESS, else a new local
    Ray.

    Only what was started here is shut down at the end. Raises ResourceError where there is no such cluster.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith(("ray://", "http://", "https://")):
        raise ResourceError(
            f"address {address} is not that of a cluster's own network; run the job there:"
            " ray job submit --address http://HOST:8265 --working-dir . -- python jobs/annotate.py …"
        )
    # Else Ray's C++ prints an alarming paragraph on how actors restart for every pool. Ray says in one line
    # that it has read the variable; who wants to see more sets it.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        settings["include_dashboard"] = False
        # Ray runs its workers below everything else, its own bookkeeping included; here they are the work.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # It ends workers that were idle for a second, as those that read and commit are between two items:
        # each item would pay for new ones, two seconds of imports apiece.
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", _IDLE_WORKER_MS)
        if usable_cores() < (os.cpu_count() or 1):  # else what Ray finds, which knows the limits of containers
            settings["num_cpus"] = usable_cores()
    elif address != "auto":
        _check_listening(address)
    _init(address, settings)
    try:
        yield
    finally:
        ray.shutdown()


def nodes() -> tuple[Node, ...]:
    """The nodes that are alive."""
    found = cast("list[dict[str, Any]]", ray.nodes())
    resources = [cast("dict[str, float]", node["Resources"]) for node in found if node["Alive"]]
    return tuple(
        Node(entry.get("CPU", 0), entry.get("GPU", 0), entry.get("object_store_memory", inf)) for entry in resources
    )


def check_devices(stages: Sequence[StageSpec]) -> None:
    """Refuse a GPU stage whose actors would find no CUDA: asked on a node that Ray picks, before anything is
    written.
    """
    problems = Problems()
    for stage in stages:
        if stage.model.device != "cpu":
            with problems.noted():
                _check_device(stage)
    problems.raise_any()


def _check_device(stage: StageSpec) -> None:
    if not stage.model.num_gpus:
        return
    probe = ray.remote(num_cpus=0, num_gpus=stage.model.num_gpus, max_retries=1)(_probe)
    try:
        ray.get(probe.remote(stage.model.device))
    except RayTaskError as error:
        cause = cast(BaseException, error.cause)
        if isinstance(cause, UsageError):
            raise ResourceError(f"models.{stage.name}: {cause}") from error
        raise


def _init(address: str, settings: dict[str, Any]) -> None:
    attempts = _START_ATTEMPTS if address == "local" else 1
    for left in reversed(range(attempts)):
        try:
            ray.init(address=address, **settings)
        except Exception as error:  # Ray raises errors of its own, built-in ones and bare Exceptions
            ray.shutdown()
            if not left:
                raise ResourceError(_no_cluster(address, error)) from error
        else:
            return


def _probe(setting: Any) -> str:
    return pick_device(setting, gpu_assigned())


def _check_listening(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ResourceError(f"address {address!r} is neither auto, local nor HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise ResourceError(f"no Ray cluster at {address}: {error}; {_ANOTHER}") from error


def _no_cluster(address: str, error: BaseException) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    if address == "local":
        return f"Ray could not be started on this machine: {reason}"
    # For a wrong token Ray says no more than that it could not connect.
    return (
        f"no Ray cluster at {address}: {reason}; {_ANOTHER}. If it is there, it may ask for its token"
        " (RAY_AUTH_MODE=token with RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH) or run another version of Ray"
    )
