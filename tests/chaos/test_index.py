"""`luke-batch index build` is killed at random moments: the index stays searchable, and the next build
finishes.
"""

import logging
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from luke_batch.index.build import build
from luke_batch.index.search import EntityIndex
from luke_batch.index.settings import IndexConfig, SearchSettings
from luke_batch.index.sources import AnnotatedSources
from luke_batch.index.versions import IndexFolder
from tests.annotated_outputs import document, put_output

_KILLS = 10
_FILES = 24
_DIMENSION = 32
_COMMAND = str(Path(sys.executable).with_name("luke-batch"))
_END_SECONDS = 120.0


@pytest.fixture
def address() -> Iterator[str]:
    """A local Ray that outlives the drivers."""
    import ray

    from luke_batch.distributed.cluster import own_token

    with own_token():
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


def test_kills(tmp_path: Path, seed: int, address: str) -> None:
    """After each kill every search answers as the old version did, or as the new one where that was
    published; what the next build makes is what a build from nothing makes.
    """
    rng = random.Random(seed)
    output, index = tmp_path / "out", tmp_path / "index"
    for number in range(_FILES):
        night(output, number, 0)
    assert start(output, index, address).wait(_END_SECONDS) == 0
    kill_times: list[float] = []
    landed = 0
    updates: list[int] = []
    layers: list[int] = []
    for number in range(1, 40):
        old = answers(index)
        for file in rng.sample(range(_FILES), 6):
            night(output, file, number)
        if number % 3 == 0:
            forget(output, rng.randrange(_FILES))
        landed += killed(output, index, address, rng, kill_times)
        found = answers(index)
        scratch = tmp_path / f"scratch{number}"
        config = EntityIndex.open(str(index)).manifest.config
        build(AnnotatedSources.at([str(output)]), IndexFolder(str(scratch)), IndexConfig.model_validate(config))
        assert found in (old, answers(scratch))
        if landed % 5 == 0:
            assert start(output, index, address).wait(_END_SECONDS) == 0
        else:
            build(AnnotatedSources.at([str(output)]), IndexFolder(str(index)), IndexConfig.model_validate(config))
        assert answers(index) == answers(scratch)
        assert not (index / "building").exists()
        updates.append(EntityIndex.open(str(index)).manifest.vectors["updates"])
        layers.append(count(index / "current" / "entities"))
        if landed == _KILLS:
            # Kills and nights met vectors that were added and cells that were made anew, files of several
            # nights and files that were joined.
            assert min(updates) == 0 < max(updates)
            assert min(layers) == 1 < max(layers)
            return
    raise AssertionError(f"only {landed} kills landed")


def night(output: Path, file: int, number: int) -> None:
    """Another content of one source file."""
    forget(output, file)
    names = [[(f"Name {(7 * file + 3 * row + place) % 90}", "PER") for place in range(8)] for row in range(6)]
    documents = [document(f"{file}-{row}", mentions) for row, mentions in enumerate(names)]
    put_output(output, f"s{file}", documents, content=f"{number:06x}aaaaaa", seed=number, dimension=_DIMENSION)


def forget(output: Path, file: int) -> None:
    """Remove what was made of one source file."""
    for path in (output / "data").glob(f"{hashed(file)}*.parquet"):
        path.unlink()


def hashed(file: int) -> str:
    """As the names of its outputs begin."""
    from luke_batch.corpus.output_file import path_hash

    return path_hash(f"s{file}")


def options(address: str) -> list[str]:
    """Of the builds."""
    search = SearchSettings(variant="IVF_FLAT", partitions=4, probes=4, recall_sample=20)
    given = search.model_dump(include={"variant", "partitions", "probes", "recall_sample"})
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in given.items()]
    return [text for pair in pairs for text in pair] + ["--address", address, "--quiet"]


def answers(index: Path) -> list[object]:
    """What searches find, and the entity table."""
    opened = EntityIndex.open(str(index))
    table = opened.entities().read_all().sort_by("id")
    names = [f"Name {number}" for number in (0, 30, 60, 89)]
    found = opened.search(names, 5)
    vectors = table["vector"].combine_chunks().flatten().to_numpy().tobytes()
    return [found["key"].to_pylist(), found["score"].to_pylist(), table["count"].to_pylist(), vectors]


def killed(output: Path, index: Path, address: str, rng: random.Random, seconds: list[float]) -> bool:
    """Start a build and kill it at a random moment of its work; False where it was faster."""
    packs = count(index / "packs")
    process = start(output, index, address)
    while process.poll() is None and not (index / "building").exists() and count(index / "packs") == packs:
        time.sleep(0.01)
    begun = time.monotonic()
    expected = max(seconds, default=1.0)
    try:
        process.wait(rng.uniform(0, expected))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_END_SECONDS)
        return True
    seconds.append(time.monotonic() - begun)
    assert process.returncode == 0
    return False


def start(output: Path, index: Path, address: str) -> "subprocess.Popen[bytes]":
    """A build, under way."""
    return subprocess.Popen([_COMMAND, "index", "build", str(output), str(index), *options(address)])


def count(folder: Path) -> int:
    """Files in a folder."""
    return len(list(folder.iterdir()))
