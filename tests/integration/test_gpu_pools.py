"""Actor pools on logical GPUs: Ray counts two devices that do not exist."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from luke_batch import JobConfig
from luke_batch.annotate.annotator import model_stages
from luke_batch.base.errors import ResourceError
from luke_batch.distributed import cluster, run
from luke_batch.distributed.stages import gpu_assigned
from tests.corpora import put
from tests.integration.conftest import assert_same_annotations, config_for, documents, read_data

pytestmark = pytest.mark.usefixtures("ray_session")


@contextmanager
def watched() -> Generator[list[dict[str, float]]]:
    """What was free on the cluster, every now and then inside of the block."""
    free: list[dict[str, float]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            free.append(dict(ray.available_resources()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield free
    finally:
        done.set()
        watcher.join()


def test_cpu_model_beside_gpu_model(tmp_path: Path, checkpoint: Path) -> None:
    """Two actors share one GPU while the CPU model has none, and the rows are those of one process."""
    put(tmp_path / "in", "a.parquet", documents("a"))
    put(tmp_path / "in", "b.parquet", documents("b"))
    path = str(checkpoint)
    config = JobConfig.model_validate(
        {
            "input": {"lang_column": "lang"},
            "models": {
                "main": {"path": path, "num_cpus": 0.5, "actors": 1},
                "big": {"path": path, "num_cpus": 0.25, "num_gpus": 0.5, "device": "cpu", "actors": 2},
            },
            "heads": [
                {"head": "ner"},
                {"head": "types", "model": "big"},
                {"head": "relations", "model": "big"},
                {"head": "embeddings", "model": "big"},
            ],
            "output": {"max_rows": 3},
        }
    )
    with watched() as free:
        report = run.annotate(str(tmp_path / "in"), str(tmp_path / "out"), config, quiet=True)
    assert report.exit_code == 0
    assert min(each["GPU"] for each in free) == pytest.approx(1.0)
    assert min(each["CPU"] for each in free) <= 2 - (0.5 + 2 * 0.25) * 0.95
    table = pa.concat_tables([documents("a"), documents("b")])
    assert_same_annotations(read_data(tmp_path / "out"), table, config)


def test_an_actor_knows_whether_it_has_a_gpu() -> None:
    """`device: auto` goes by what Ray assigned, a part of a GPU included."""
    assert ray.get(ray.remote(num_cpus=0, num_gpus=0.5)(gpu_assigned).remote())
    assert not ray.get(ray.remote(num_cpus=0)(gpu_assigned).remote())


def test_gpu_without_cuda_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    """With an assigned GPU and no CUDA, `device: auto` is a clear error; nothing hangs or is written."""
    put(tmp_path / "in", "a.parquet", documents("a"))
    config = config_for(checkpoint, num_gpus=0.5)
    with pytest.raises(ResourceError, match=r"models.main: Ray assigned a GPU.*no CUDA.*device: cpu") as raised:
        run.annotate(str(tmp_path / "in"), str(tmp_path / "out"), config, quiet=True)
    assert "device: cpu" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_cuda_without_gpus_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    """Ray hides all GPUs from an actor that asks for none."""
    put(tmp_path / "in", "a.parquet", documents("a"))
    config = config_for(checkpoint, device="cuda")
    with pytest.raises(ResourceError, match="needs `num_gpus` above 0"):
        run.annotate(str(tmp_path / "in"), str(tmp_path / "out"), config, quiet=True)


def test_more_gpus_than_there_are_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    """The numbers are in the message."""
    put(tmp_path / "in", "a.parquet", documents("a"))
    config = config_for(checkpoint, num_gpus=4, device="cpu")
    with pytest.raises(ResourceError, match=r"each actor needs 1 CPU and 4 GPUs, .* 2 CPUs and 2 GPUs"):
        run.annotate(str(tmp_path / "in"), str(tmp_path / "out"), config, quiet=True)


def test_a_gpu_that_nobody_gets_is_refused(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job holds both: before, the check waited for good."""
    monkeypatch.setattr(cluster, "_DEVICE_SECONDS", 2.0)
    kind: Any = ray.remote(num_cpus=0, num_gpus=1)(_Holder)
    holders: list[Any] = [kind.remote() for _ in range(2)]
    ray.get([holder.hold.remote() for holder in holders])
    try:
        with pytest.raises(ResourceError, match=r"models.main: no GPU was free, or none answered, for 2 s"):
            cluster.check_devices(model_stages(config_for(checkpoint, num_gpus=0.5)))
    finally:
        for holder in holders:
            ray.kill(holder)


class _Holder:
    """An actor of somebody else."""

    def hold(self) -> None:
        """Be there."""
