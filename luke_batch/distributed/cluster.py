"""Connects to a Ray cluster, or starts a local one for the length of a run."""

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from math import inf
from pathlib import Path
from types import FrameType
from typing import Any, cast

import grpc
import ray
from ray.exceptions import GetTimeoutError, RayTaskError

from luke_batch.annotate.annotator import StageSpec
from luke_batch.base.errors import IncompleteError, ResourceError, UsageError
from luke_batch.base.problems import Problems
from luke_batch.distributed.resources import Node, usable_cores
from luke_batch.distributed.stages import gpu_assigned
from luke_batch.model.engine.device import pick_device

_CONNECT_SECONDS = 10
"""Ray itself tries an address at which nobody listens for more than a minute."""
_DEVICE_SECONDS = 120.0
"""A GPU that is there and free answers within the start of a worker; a driver that hangs never does."""
_WHO_ARE_YOU = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""What every connection to a cluster asks first."""
_IDLE_WORKER_MS = str(3600 * 1000)
_START_ATTEMPTS = 2
"""A local Ray gives its own processes 30 seconds, which a busy machine may not keep."""
_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_USUAL_PLACE = ".ray/auth_token"
_ANOTHER = "start one (ray start --head), correct --address or RAY_ADDRESS, or use --address local"
_SIEVE_ENDS = b"the sieve ends\n"
_SIEVE = f"""
import sys
for line in sys.stdin.buffer:
    if b"Set ray log level from environment" not in line:
        sys.stdout.buffer.write(line.removesuffix({_SIEVE_ENDS!r}))
        sys.stdout.buffer.flush()
    if line.endswith({_SIEVE_ENDS!r}):
        break
"""


@contextmanager
def connected(address: str | None) -> Generator[None]:
    """A connection to Ray: the one that this process has, else `address`, else RAY_ADDRESS, else a new local Ray.

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
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        settings["include_dashboard"] = False
        # Ray runs its workers below everything else, its own bookkeeping included; here they are the work.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # It ends workers that were idle for a second, as those that read and commit are between two items: each item
        # would pay for new ones, two seconds of imports apiece.
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", _IDLE_WORKER_MS)
        if usable_cores() < (os.cpu_count() or 1):  # else what Ray finds, which knows the limits of containers
            settings["num_cpus"] = usable_cores()
    elif address != "auto":
        _check_listening(address)
        _check_token(address)
    with _without_chatter():
        _init(address, settings)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def stoppable() -> Generator[None]:
    """In this block SIGTERM, as `ray job stop`, Kubernetes and `kill` send it, raises IncompleteError, once: `ray job
    stop` leaves 3 seconds before it kills.

    Ray's own handler, which ends the process at once with exit code 1, is put back then and at the end; so enter the
    block after ray.init. Threads other than the main one get no signals: nothing changes there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)
        raise IncompleteError("stopped by SIGTERM; the same command goes on where it was")

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def own_token() -> Generator[None]:
    """A local Ray that is started in this block asks for a token that no file holds, unless the user has one.

    Ray itself would write one to ~/.ray/auth_token, and from then on every `ray start` of this user would ask for it.
    Its processes keep what they find in the environment when they start, which is then as it was.
    """
    before = {name: os.environ.get(name) for name in (_MODE, _TOKEN)}
    if not _token_of_user():
        os.environ[_TOKEN] = _token_of_process()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def nodes() -> tuple[Node, ...]:
    """The nodes that are alive."""
    found = cast("list[dict[str, Any]]", ray.nodes())
    resources = [cast("dict[str, float]", node["Resources"]) for node in found if node["Alive"]]
    return tuple(
        Node(entry.get("CPU", 0), entry.get("GPU", 0), entry.get("object_store_memory", inf)) for entry in resources
    )


def check_devices(stages: Sequence[StageSpec]) -> None:
    """Refuse a GPU stage whose actors would find no CUDA, or no free GPU within two minutes: asked on a node that Ray
    picks.
    """
    problems = Problems()
    for stage in stages:
        if stage.model.device == "cpu" or not stage.model.num_gpus:
            continue
        probe = ray.remote(num_cpus=0, num_gpus=stage.model.num_gpus, max_retries=1)(_probe)
        asked = probe.remote(stage.model.device)
        try:
            ray.get(asked, timeout=_DEVICE_SECONDS)
        except GetTimeoutError:
            ray.cancel(asked, force=True)
            problems.add(
                ResourceError(
                    f"models.{stage.name}: no GPU was free, or none answered, for {_DEVICE_SECONDS:.0f} s: `ray status`"
                    f" says who holds them; wait for these, or set models.{stage.name}.device=cpu and num_gpus=0 there"
                )
            )
        except RayTaskError as error:
            if not isinstance(error.cause, UsageError):
                raise
            problems.add(ResourceError(f"models.{stage.name}: {error.cause}"))
    problems.raise_any()


def _init(address: str, settings: dict[str, Any]) -> None:
    attempts = _START_ATTEMPTS if address == "local" else 1
    for left in reversed(range(attempts)):
        try:
            with own_token() if address == "local" else nullcontext():
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


def _check_token(address: str) -> None:
    """Refuse a cluster that asks for another token: Ray itself tries for 20 seconds, with a warning in each."""
    mode = os.environ.get(_MODE, "").lower()
    if mode not in ("", "disabled", "token") or os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return
    token = _token_of_user() if mode == "token" else ""
    shown = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_WHO_ARE_YOU)(b"", timeout=_CONNECT_SECONDS, metadata=shown)
        except grpc.RpcError as error:
            if cast("grpc.Call", error).code() != grpc.StatusCode.UNAUTHENTICATED:
                return  # Ray itself will say what is wrong
            raise ResourceError(
                f"the Ray cluster at {address} asks for its token: set {_MODE}=token, and {_TOKEN} or {_TOKEN_PATH}"
                f" where the token is not in ~/{_USUAL_PLACE}"
            ) from None


def _token_of_user() -> str:
    """Where Ray looks for a token, in its order; empty where there is none."""
    if token := os.environ.get(_TOKEN):
        return token
    path = Path(os.environ.get(_TOKEN_PATH) or Path.home() / _USUAL_PLACE)
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


@cache
def _token_of_process() -> str:
    """One for all local Rays of this process: Ray's C++ reads the token once."""
    return secrets.token_hex(32)


@contextmanager
def _without_chatter() -> Generator[None]:
    """Connect in this block: Ray's C++ then says what is fatal, and nothing else.

    Else it prints an alarming paragraph on how actors restart for every pool. That it has read the variable it says as
    well, in a line that nothing turns off: it is taken out on its way to standard error, by a process, so that what Ray
    says before it ends this one is not lost. Who wants to see more sets the variable.
    """
    ours = os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal") == "fatal"
    try:
        terminal = os.dup(2) if ours else None
    except OSError:  # it is closed
        terminal = None
    if terminal is None:
        yield
        return
    sieve = subprocess.Popen(  # noqa: S603 - our own few lines
        [sys.executable, "-SIc", _SIEVE], stdin=subprocess.PIPE, stdout=terminal, start_new_session=True
    )
    assert sieve.stdin is not None
    try:
        with sieve.stdin as pipe:
            os.dup2(pipe.fileno(), 2)
        yield
    finally:
        with suppress(BrokenPipeError):
            os.write(2, _SIEVE_ENDS)
        os.dup2(terminal, 2)
        os.close(terminal)
        sieve.wait()


def _no_cluster(address: str, error: BaseException) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    if address == "local":
        return f"Ray could not be started on this machine: {reason}"
    # For a wrong token Ray says no more than that it could not connect.
    return (
        f"no Ray cluster at {address}: {reason}; {_ANOTHER}. If it is there, it may ask for its token"
        " (RAY_AUTH_MODE=token with RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH) or run another version of Ray"
    )
