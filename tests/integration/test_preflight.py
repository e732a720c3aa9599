"""Preflight on a cluster of three nodes: what they have and see, all problems at once, nothing written."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.chaos.cluster import HERE, Cluster, Place
from tests.corpora import put
from tests.integration.conftest import documents


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Each node has one CPU and an object store of 157 MB.

    Its folder names a cluster that is gone afterwards, which other tests would look for.
    """
    cluster = Cluster(tmp_path_factory.mktemp("nodes") / "logs")
    folder = tempfile.mkdtemp(prefix="lb", dir="/tmp")  # sockets below it allow no long path
    cluster.environment["RAY_TMPDIR"] = folder
    with cluster:
        yield cluster
    shutil.rmtree(folder, ignore_errors=True)


def _annotate(cluster: Cluster, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(Path(sys.executable).with_name("luke-batch")), "annotate", *arguments, "--quiet"],
        env={**os.environ, **cluster.environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_cluster_that_does_not_fit_is_refused_with_every_reason(
    cluster: Cluster, checkpoint: Path, tmp_path: Path
) -> None:
    """Local folders on three nodes, an actor that no node holds, a work item that no object store holds."""
    text = "x" * 1_000_000
    table = pa.table({"id": [str(n) for n in range(100)], "text": [f"{n} {text}" for n in range(100)]})
    put(tmp_path / "in", "big.parquet", table, use_dictionary=False)
    refused = _annotate(
        cluster,
        *(str(tmp_path / "in"), str(tmp_path / "out"), "--address", cluster.address),
        *("--set", f"models.main.path={checkpoint}", "--set", "models.main.num_cpus=4"),
        *("--set", "output.max_bytes=1000000000"),
    )
    assert refused.returncode == 2
    lines = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    expected = (
        f"INPUT {tmp_path}/in is a local path, but the cluster has 3 nodes",
        f"OUTPUT {tmp_path}/out is a local path, but the cluster has 3 nodes",
        "models.main: each actor needs 4 CPUs, and no node has both: the largest has 1 CPU",
        "output.max_bytes: the largest work item has 100.0 MB, and a stage holds it twice, but the largest",
    )
    assert len(lines) == len(expected), refused.stderr
    for line, said in zip(lines, expected, strict=True):
        assert said in line
    assert not (tmp_path / "out").exists()


def test_nodes_that_see_everything_go_to_work(cluster: Cluster, checkpoint: Path, tmp_path: Path) -> None:
    """The probes of all nodes pass, and leave nothing behind."""
    put(tmp_path / "in", "a.parquet", documents("a"))
    done = _annotate(
        cluster,
        *(str(tmp_path / "in"), str(tmp_path / "out"), "--address", cluster.address),
        *("--set", f"models.main.path={checkpoint}", "--set", "output.shared=true"),
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert len(list((tmp_path / "out").glob("data/*.parquet"))) == 1
    assert list((tmp_path / "out" / "_luke_batch").glob("part/*")) == []


def test_a_node_with_other_libraries_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    """Two of three nodes find another sentencex; before, they cut other sentences than the driver's plan was for."""
    other = tmp_path / "other" / "sentencex-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: sentencex\nVersion: 0.0.1\n")
    strange = Place(under=("env", f"PYTHONPATH={other.parent}"))
    cluster = Cluster(tmp_path / "logs", (HERE, strange, strange))
    folder = tempfile.mkdtemp(prefix="lb", dir="/tmp")
    cluster.environment["RAY_TMPDIR"] = folder
    put(tmp_path / "in", "a.parquet", documents("a"))
    with cluster:
        refused = _annotate(
            cluster,
            *(str(tmp_path / "in"), str(tmp_path / "out"), "--address", cluster.address),
            *("--set", f"models.main.path={checkpoint}", "--set", "output.shared=true"),
        )
    shutil.rmtree(folder, ignore_errors=True)
    assert refused.returncode == 2
    lines = [line for line in refused.stderr.splitlines() if "sentencex 0.0.1 instead of" in line]
    assert len(lines) == 1, refused.stderr  # both have one address here
    assert not (tmp_path / "out" / "data").exists()


_IMPATIENT = """
import sys
from luke_batch.cli import run
from luke_batch.distributed import preflight
preflight._PROBE_SECONDS = 8.0
sys.exit(run(sys.argv[1:]))
"""


def test_a_node_that_does_not_answer_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Its raylet stands still; before, the run went on with a node of which nothing was known."""
    cluster = Cluster(tmp_path / "logs", (HERE, HERE))
    folder = tempfile.mkdtemp(prefix="lb", dir="/tmp")
    cluster.environment["RAY_TMPDIR"] = folder
    put(tmp_path / "in", "a.parquet", documents("a"))
    with cluster:
        raylet = cluster.raylet(1)
        assert raylet is not None
        raylet.suspend()
        refused = subprocess.run(
            [
                *(sys.executable, "-c", _IMPATIENT, "annotate", str(tmp_path / "in"), str(tmp_path / "out"), "--quiet"),
                *("--address", cluster.address, "--set", f"models.main.path={checkpoint}"),
                *("--set", "output.shared=true"),
            ],
            env={**os.environ, **cluster.environment, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        raylet.resume()
    shutil.rmtree(folder, ignore_errors=True)
    assert refused.returncode == 2, refused.stderr
    assert "no answer for 8 s; look at that node" in refused.stderr
    assert not (tmp_path / "out" / "data").exists()
