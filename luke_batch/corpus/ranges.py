"""Row ranges [start, end) of a file: what a set of them covers and what it leaves out."""

from collections.abc import Iterable

Range = tuple[int, int]


def gaps(ranges: Iterable[Range], start: int, end: int) -> list[Range]:
    """The parts of [start, end) that no range of `ranges` covers, ascending."""
    left: list[Range] = []
    for first, last in sorted(ranges):
        if first >= end:
            break
        if first > start:
            left.append((start, first))
        start = max(start, last)
    if start < end:
        left.append((start, end))
    return left


def covers(ranges: Iterable[Range], rows: int) -> bool:
    """Whether `ranges` hold every row of a file; one without rows needs its one empty range."""
    known = list(ranges)
    return bool(known) and not gaps(known, 0, rows)
