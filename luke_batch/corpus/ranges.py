"""Row ranges [start, end) of a file: what a set of them covers and what it leaves out."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise

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


def tiling(ranges: Iterable[Range]) -> list[Range]:
    """Disjoint ranges among `ranges` that hold the most rows, and of such sets one of the fewest; ascending.

    Ranges overlap where a file was cut in two ways at once, or while adjacent outputs are being merged.
    Weighted interval scheduling (Kleinberg and Tardos, Algorithm Design, 6.1), O(n log n).
    """
    by_start = sorted(set(ranges))
    if all(before[1] <= after[0] for before, after in pairwise(by_start)):
        return by_start
    known = sorted(by_start, key=lambda each: (each[1], each[0]))
    ends = [end for _, end in known]
    best = [(0, 0)]
    """(rows, -ranges) that the first n ranges allow."""
    before: list[int] = []
    """Number of ranges that end where the n-th begins, or earlier."""
    for number, (start, end) in enumerate(known):
        place = bisect_right(ends, start, hi=number)
        before.append(place)
        rows, count = best[place]
        best.append(max(best[number], (rows + end - start, count - 1)))
    chosen: list[Range] = []
    number = len(known)
    while number:
        if best[number] == best[number - 1]:
            number -= 1
        else:
            chosen.append(known[number - 1])
            number = before[number - 1]
    return chosen[::-1]
