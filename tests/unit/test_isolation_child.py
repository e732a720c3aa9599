"""What a child process does beside its work."""

from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from luke_batch.isolation import child


def test_memory_is_given_back_in_the_middle_of_a_long_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every two seconds, counted from its beginning: the end of the item before has done it as well."""
    clock = [0.0]
    returned: list[float] = []
    monkeypatch.setattr(child, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(child, "return_freed_memory", lambda: returned.append(clock[0]))
    ours, theirs = Pipe()
    with ours, theirs:
        beats = child.Beats(ours)
        for clock[0] in (1.0, 2.5, 3.0, 4.6):
            beats(None)
        clock[0] = 10.0
        beats.expect_work()
        clock[0] = 11.0
        beats(None)
    assert returned == [2.5, 4.6]
