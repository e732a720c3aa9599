"""Fixtures of the whole suite."""

from __future__ import annotations

import gc
import os
import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:  # the module imports torch, and most tests do without
    from collections.abc import Callable
    from pathlib import Path

    from tests.checkpoints import Recipe

# Other work on the machine slows a test more than any deadline could tell from a defect.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

_VERDICT = pytest.StashKey[int]()

# Before anything imports torch: two threads that share busy cores are many times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """Until the tests run, no garbage is looked for: the imports leave none."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What is there now stays: a full collection would walk the million objects of the imported modules."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Path]:
    """A function that gives the folder of a recipe's checkpoint; do not write into it."""
    from tests.checkpoints import make

    return cache(lambda recipe: make(tmp_path_factory.mktemp("checkpoint"), recipe))


@pytest.fixture(scope="session")
def multi_head_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of luke-batch's own format with three heads; do not write into it."""
    from tests.checkpoints import make_multi_head

    return make_multi_head(tmp_path_factory.mktemp("checkpoint"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the verdict for the end of the process."""
    session.config.stash[_VERDICT] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End here with the verdict. The whole suite loads Ray, gRPC, torch, Lance and FAISS into one process, and their
    threads were seen to crash it while the interpreter ended, after 2,484 of 2,484 tests had passed. What luke-batch
    itself starts has processes of its own, whose exit codes the tests look at.
    """
    if _VERDICT in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_VERDICT])
