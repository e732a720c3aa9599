"""Addresses that lead to no cluster are refused in one line that says what to do, and soon."""

import socket
from typing import Any

import pytest
import ray

from luke_batch.base.errors import ResourceError
from luke_batch.distributed.cluster import connected


@pytest.fixture(autouse=True)
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not met Ray, whatever other tests have done."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def refusal(address: str | None) -> str:
    """The message of the refusal."""
    with pytest.raises(ResourceError) as raised, connected(address):
        pass
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_nobody_listens() -> None:
    """Ray itself would try for more than a minute."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    message = refusal(f"127.0.0.1:{port}")
    assert f"no Ray cluster at 127.0.0.1:{port}" in message
    assert "--address local" in message


def test_ray_client_and_dashboard_addresses() -> None:
    """A pipeline is driven from inside the cluster: the cure is to submit it."""
    assert "ray job submit" in refusal("ray://host:10001")
    assert "ray job submit" in refusal("http://host:8265")


def test_nonsense() -> None:
    """Neither a keyword nor HOST:PORT."""
    assert "neither auto, local nor HOST:PORT" in refusal("everywhere")


def test_environment_names_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAY_ADDRESS counts where no address is given."""
    monkeypatch.setenv("RAY_ADDRESS", "ray://host:10001")
    assert "ray://host:10001" in refusal(None)


@pytest.mark.parametrize(("usable", "told"), [({1}, 1), ({0, 1, 2, 3}, None)])
def test_a_local_ray_has_the_cores_that_it_may_use(
    monkeypatch: pytest.MonkeyPatch, usable: set[int], told: int | None
) -> None:
    """Ray counts all cores of the machine, also under `taskset`: more tasks at once than can run."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr("os.sched_getaffinity", lambda _: usable, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr(ray, "init", lambda **settings: asked.update(settings))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with connected("local"):
        assert asked.get("num_cpus") == told
