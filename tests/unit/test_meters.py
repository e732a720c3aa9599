"""Counting: what it adds up to."""

import time
from collections.abc import Iterator

import pytest

from luke_batch.base import meters


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing counted before, nothing left behind."""
    meters.take()
    yield
    meters.take()


def test_counts_are_summed_and_taken_once() -> None:
    """By name, and by name and label."""
    meters.count("windows", 3)
    meters.count("windows")
    meters.count("dead_letters", 2, "CrashError")
    assert meters.take() == {"windows": 4, "dead_letters/CrashError": 2}
    assert meters.take() == {}


def test_of_peaks_the_largest_is_kept() -> None:
    """Memory of two children is not their sum."""
    meters.count("memory_bytes", 5)
    meters.absorb({"memory_bytes": 3, "tokens": 7})
    assert meters.take() == {"memory_bytes": 5, "tokens": 7}


def test_nested_time_counts_once() -> None:
    """The stages of a piece of work add up to its time, whatever runs inside of what."""
    started = time.perf_counter()
    with meters.spending("build"):
        time.sleep(0.02)
        with meters.spending("forward"):
            time.sleep(0.03)
        time.sleep(0.01)
    whole = time.perf_counter() - started
    taken = meters.take()
    assert taken["seconds/forward"] >= 0.03
    assert taken["seconds/build"] >= 0.03
    assert sum(taken.values()) == pytest.approx(whole, abs=0.005)


def test_time_is_counted_where_the_work_fails() -> None:
    """An error passes through, and the next piece of work is not charged for it."""
    with pytest.raises(ValueError, match="no"), meters.spending("build"):
        raise ValueError("no")
    before = meters.take()["seconds/build"]
    time.sleep(0.02)
    with meters.spending("decode"):
        pass
    after = meters.take()
    assert before < 0.02
    assert after["seconds/decode"] < 0.02
    assert "seconds/build" not in after
