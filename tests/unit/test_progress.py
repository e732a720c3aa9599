"""What a run shows of itself."""

import io
import time

import pytest

from luke_batch.corpus.commit import Committed
from luke_batch.distributed.progress import Meter, ProgressReport
from luke_batch.distributed.results import ItemResult


class Clock:
    """A clock that a test turns."""

    now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def result(rows: int, dead: int = 0) -> ItemResult:
    """A work item with one fragment."""
    return ItemResult((Committed("p", "s", rows - dead, dead, 1, "v", 0, {}),), 0)


def test_rate_and_time_left() -> None:
    """The line tells how much of how much, the rate since the start, and what is left at that rate."""
    clock = Clock()
    meter = Meter(10, 10_000, clock)
    clock.now += 25
    meter.add(result(1000, dead=1))
    expected = "1/10 fragments, 1,000/10,000 documents, 40.0 documents/s, 3 min 45 s left, 1 dead letter"
    assert meter.describe() == expected


def test_nothing_done_yet() -> None:
    """While models load there is no rate to tell."""
    clock = Clock()
    meter = Meter(1, 10, clock)
    clock.now += 4000
    assert meter.describe() == "0/1 fragments, 0/10 documents, starting for 1 h 06 min"


def test_lines_elsewhere_than_on_a_terminal() -> None:
    """A log file gets plain lines, one for each interval."""
    stream, meter = io.StringIO(), Meter(1, 10)
    with ProgressReport(meter, stream, line_seconds=0.01) as progress:
        progress.update(result(10))
        while not stream.getvalue():
            time.sleep(0.01)
    lines = stream.getvalue().splitlines()
    assert lines
    assert "10/10 documents" in lines[-1]
    assert "\x1b" not in stream.getvalue()


def test_quiet_shows_nothing() -> None:
    """Without a stream there is nothing to show, and updates still count."""
    meter = Meter(1, 10)
    with ProgressReport(meter, None) as progress:
        progress.update(result(10))
    assert meter.documents == 10


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        """It says that it is a terminal."""
        return True


@pytest.mark.parametrize("colours", [True, False])
def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, colours: bool) -> None:
    """Fragments, documents a second, time left and dead letters, all on one line; NO_COLOR is heeded."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colours:
        monkeypatch.setenv("NO_COLOR", "1")
    stream, clock = _Terminal(), Clock()
    meter = Meter(4, 40, clock)
    clock.now += 10
    expected = "1/4 fragments, 10/40 documents, 1.0 documents/s, 30 s left, 1 dead letter"
    with ProgressReport(meter, stream) as progress:
        progress.update(result(10, dead=1))
        while expected not in stream.getvalue():
            time.sleep(0.01)
    assert ("\x1b[38" in stream.getvalue()) is colours, "colours of the bar"
