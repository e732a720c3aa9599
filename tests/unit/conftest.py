"""Fixtures of the unit tests."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] - pytest finds it
    """No test here cuts the power, and on a busy disk the index alone would wait for it many seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield
