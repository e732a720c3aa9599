"""Documents over time in a fixed number of counts, however long a run takes."""

import time
from collections.abc import Callable

MOST_POINTS = 240
_FIRST_WIDTH = 1.0


class Throughput:
    """Counts by equal spans of time; when there are too many, neighbours are added up and spans doubled."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.started = clock()
        self._width = _FIRST_WIDTH
        self._counts: list[int] = []

    def start(self) -> None:
        """Time begins now, and not when this was made."""
        self.started = self._clock()

    def add(self, documents: int) -> None:
        """Count documents that are finished now."""
        place = int((self._clock() - self.started) / self._width)
        while place >= MOST_POINTS:
            pairs = [self._counts[first : first + 2] for first in range(0, len(self._counts), 2)]
            self._counts = [sum(pair) for pair in pairs]
            self._width *= 2
            place //= 2
        self._counts.extend([0] * (place + 1 - len(self._counts)))
        self._counts[place] += documents

    def figures(self) -> dict[str, object]:
        """`seconds`: of each span; `documents`: finished in each, from the start of the work."""
        return {"seconds": self._width, "documents": list(self._counts)}
