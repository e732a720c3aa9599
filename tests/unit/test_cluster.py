"""Addresses that lead to no cluster are refused in one line that says what to do, and soon."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import ray

from luke_batch.base.errors import ResourceError
from luke_batch.distributed.cluster import _without_chatter, connected, own_token


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


TOKENS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.mark.parametrize("given", ["nothing", "variable", "file"])
def test_a_local_ray_has_a_token_that_lies_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str) -> None:
    """Unless the user has one. The environment is then as it was, also where Ray has set its mode."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in TOKENS:
        monkeypatch.delenv(name, raising=False)
    if given == "variable":
        monkeypatch.setenv("RAY_AUTH_TOKEN", "of the user")
    if given == "file":
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("of the user")
    before = {name: os.environ.get(name) for name in TOKENS}
    with own_token():
        found = os.environ.get("RAY_AUTH_TOKEN")
        os.environ["RAY_AUTH_MODE"] = "token"
    assert {"nothing": len(found or "") == 64, "variable": found == "of the user", "file": found is None}[given]
    assert {name: os.environ.get(name) for name in TOKENS} == before
    assert (tmp_path / ".ray").exists() == (given == "file")


def test_only_the_stray_line_is_kept_from_standard_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What Ray says besides goes where it went; who sets the level himself sees all."""
    stray = b"[I 1 1] logging.cc:303: Set ray log level from environment variable RAY_BACKEND_LOG_LEVEL to 3\n"
    monkeypatch.delenv("RAY_BACKEND_LOG_LEVEL", raising=False)
    with _without_chatter():
        os.write(2, stray)
    with _without_chatter():
        os.write(2, stray + b"the raylet died\nwithout an end of line")
    os.write(2, b"\nafterwards\n")
    assert capfd.readouterr().err == "the raylet died\nwithout an end of line\nafterwards\n"
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "info")
    with _without_chatter():
        os.write(2, stray)
    assert capfd.readouterr().err == stray.decode()
