"""`ray job submit` to a cluster on loopback."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.corpora import put
from tests.integration.conftest import assert_same_annotations, config_for, documents, read_data

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
START_SECONDS = 180
MOST_UPLOADED = 128 * 2**20
"""Bytes of a working directory that a submission may copy to every node: 85 MiB are the embedded model."""


@dataclass(frozen=True)
class Cluster:
    """A running head node."""

    address: str
    dashboard: str
    environment: dict[str, str]
    folder: Path

    def submit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`ray job submit --working-dir . -- python jobs/annotate.py ARGUMENTS`, to its end."""
        command = [
            *(str(RAY), "job", "submit", "--address", self.dashboard, "--working-dir", "."),
            *("--", sys.executable, "jobs/annotate.py", *arguments),
        ]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=400,
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head node that asks for a token."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    with running_head(_plain_environment() | token) as head:
        yield head


def _plain_environment() -> dict[str, str]:
    """Without what the tests' own Ray, or a user, has set for Ray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {"RAY_worker_niceness": "0"}


@contextmanager
def running_head(environment: dict[str, str]) -> Generator[Cluster]:
    """`ray start --head` with ports and a folder of its own.

    It is stopped by ending its process group: `ray stop` would stop every Ray of the machine.
    """
    ports = _free_ports(4)
    folder = Path(tempfile.mkdtemp(prefix="lb", dir="/tmp"))  # sockets below it allow no long path
    command = [
        *(str(RAY), "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats"),
        *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}"),
        *(f"--port={ports[0]}", f"--dashboard-port={ports[1]}", f"--ray-client-server-port={ports[2]}"),
        f"--dashboard-agent-listen-port={ports[3]}",
    ]
    log = folder / "start.log"
    with log.open("w") as out:
        head = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    dashboard = f"http://127.0.0.1:{ports[1]}"
    try:
        _wait_for(dashboard, head, log)
        yield Cluster(f"127.0.0.1:{ports[0]}", dashboard, environment, folder)
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(head.pid, sign)
                head.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [open_socket.getsockname()[1] for open_socket in sockets]
    for open_socket in sockets:
        open_socket.close()
    return ports


def _wait_for(dashboard: str, head: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and head.poll() is None:
        try:
            with urllib.request.urlopen(f"{dashboard}/api/version", timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it asks for its token: it is up
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the head node did not come up: {log.read_text()}")


def test_submitted_job_equals_the_annotator(cluster: Cluster, tmp_path: Path, checkpoint: Path) -> None:
    """A submitted job commits the rows that the Annotator gives, and uploads neither .venv nor .git."""
    put(tmp_path / "in", "a.parquet", documents("a"))
    config = config_for(checkpoint)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    done = cluster.submit(str(tmp_path / "in"), str(tmp_path / "out"), "--config", str(tmp_path / "job.yaml"))
    assert done.returncode == 0, done.stdout
    assert_same_annotations(read_data(tmp_path / "out"), documents("a"), config)
    (copy,) = cluster.folder.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/")
    assert not (copy / ".venv").exists()
    assert not (copy / ".git").exists()
    assert sum(path.stat().st_size for path in copy.rglob("*") if path.is_file()) < MOST_UPLOADED


def test_relative_paths_are_refused_with_the_cure(cluster: Cluster) -> None:
    """They would lie in a copy that is removed after the job."""
    done = cluster.submit("some/in", "out")
    assert done.returncode != 0
    assert "INPUT some/in is relative" in done.stdout
    assert "absolute path" in done.stdout
    assert not (ROOT / "out").exists()


@pytest.mark.parametrize(
    "token", [{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong" * 8}, {}], ids=["wrong", "none"]
)
def test_without_its_token_a_cluster_is_refused_with_the_cure(
    cluster: Cluster, tmp_path: Path, checkpoint: Path, token: dict[str, str]
) -> None:
    """The command line says in one line which variables to set, and exits with 2."""
    put(tmp_path / "in", "a.parquet", documents("a"))
    options = ("--address", cluster.address, "--set", f"models.main.path={checkpoint}")
    done = _annotate(tmp_path / "in", tmp_path / "out", *options, environment=_plain_environment() | token)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "asks for its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN" in line
    assert not (tmp_path / "out").exists()


def test_a_local_run_leaves_the_next_cluster_as_it_would_have_been(tmp_path: Path, checkpoint: Path) -> None:
    """As the documentation has it, in a new home: a local run, `ray start --head`, a job submitted without a token."""
    home = tmp_path / "home"
    home.mkdir()
    environment = _plain_environment() | {"HOME": str(home)}
    put(tmp_path / "in", "a.parquet", documents("a"))
    config = config_for(checkpoint)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    job = ("--config", str(tmp_path / "job.yaml"), "--quiet")
    own = {"RAY_TMPDIR": os.environ["RAY_TMPDIR"]}
    local = _annotate(tmp_path / "in", tmp_path / "local", "--address", "local", *job, environment=environment | own)
    assert (local.returncode, local.stdout, local.stderr) == (0, "", "")
    assert not (home / ".ray").exists()
    with running_head(environment) as head:
        done = head.submit(str(tmp_path / "in"), str(tmp_path / "out"), *job)
        assert done.returncode == 0, done.stdout
        beside = _annotate(
            tmp_path / "in", tmp_path / "beside", *job, environment=environment | {"RAY_TMPDIR": str(head.folder)}
        )
        assert (beside.returncode, beside.stdout, beside.stderr) == (0, "", "")
    assert_same_annotations(read_data(tmp_path / "out"), documents("a"), config)


def _annotate(
    input: Path, output: Path, *options: str, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "jobs/annotate.py", str(input), str(output), *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
