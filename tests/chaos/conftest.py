"""Seeds, one corpus, and the rows of an undisturbed run over it.

LUKE_BATCH_CHAOS_ROUNDS (1) says how often each story is told, LUKE_BATCH_CHAOS_SEED (0) with which seed it
begins. A test's name holds its seed, so the same test with that seed tells the same story again, up to the
pace of the machine.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import luke_batch
from tests.chaos.annotation import Job
from tests.chaos.corpus import FILES, Corpus, fall_ill, make_corpus, poisoned
from tests.chaos.story import LANDED, STORIES, summary
from tests.checkpoints import make_multi_head

ROUNDS = int(os.environ.get("LUKE_BATCH_CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("LUKE_BATCH_CHAOS_SEED", "0"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument `seed` runs once a round."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(SEED, SEED + ROUNDS), ids=lambda seed: f"seed={seed}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many kills of which kind landed."""
    if LANDED or STORIES:
        terminalreporter.section(f"chaos, {ROUNDS} rounds from seed {SEED}")
        for line in summary():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[str]:
    """Killed drivers leave the folders of their Ray behind: in one place, which is removed."""
    folder = tempfile.mkdtemp(prefix="lb", dir="/tmp")  # sockets below it allow no long path
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def environment(ray_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For these tests alone: the folder names a cluster that is gone, which other tests would look for.
    Documents that can be ill are.
    """
    monkeypatch.setenv("RAY_TMPDIR", ray_folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, value in poisoned(tmp_path / "illness").items():
        monkeypatch.setenv(name, value)
    fall_ill()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, ray_folder: str) -> Corpus:
    """Annotated once, undisturbed."""
    return annotated_once(tmp_path_factory.mktemp("chaos"), FILES, ray_folder)


def annotated_once(folder: Path, files: int, ray_folder: str) -> Corpus:
    """A corpus of so many files below `folder`."""
    documents = make_corpus(folder / "in", files)
    model = make_multi_head(folder / "model", seed=1)
    own = {"RAY_TMPDIR": ray_folder, **poisoned(None)}
    run = Job(str(folder / "in"), str(folder / "out"), model, folder / "logs", environment=own).start()
    assert run.end() == 0, run.said()
    return Corpus(folder / "in", model, documents, luke_batch.read(str(folder / "out")).to_table())


@pytest.fixture
def job(corpus: Corpus, tmp_path: Path) -> Job:
    """The corpus into an empty OUTPUT."""
    return Job(str(corpus.input), str(tmp_path / "out"), corpus.model, tmp_path / "logs")
