"""What a person sees of a fine-tuning run: a line for every point of its curve that is worth one."""

import time
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from luke_batch.distributed.progress import duration
from luke_batch.training.curve import Point, parse

_LINE_SECONDS = 10.0


class Follower:
    """Reads the lines that the first worker appends to the curve, and shows them."""

    def __init__(self, curve: Path, stream: TextIO | None, line_seconds: float = _LINE_SECONDS) -> None:
        """Show on `stream`; on nothing where that is None. Lines that are there already are not shown."""
        self._curve = curve
        self._stream = stream
        self._line_seconds = line_seconds
        self._place = curve.stat().st_size if curve.exists() else 0
        self._first: Point | None = None
        self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.look()

    def look(self) -> None:
        """Show what has come: every dev score, and losses every ten seconds."""
        if self._stream is None or not self._curve.exists():
            return
        with self._curve.open("rb") as file:
            file.seek(self._place)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._place += len(whole)
        for point in parse(whole.decode().splitlines()):
            self._first = self._first or point
            due = time.monotonic() - self._shown >= self._line_seconds or point["step"] == point["steps"]
            if "dev" in point or due:
                self._shown = time.monotonic()
                self._stream.write(describe(point, self._first) + "\n")
                self._stream.flush()


def describe(point: Point, first: Point) -> str:
    """One line: how far, rate and time left since `first`, losses or dev scores."""
    parts = [f"step {point['step']:,}/{point['steps']:,}"]
    if "dev" in point:
        return ", ".join([*parts, *(f"dev {name} {100 * value:.1f}" for name, value in point["dev"].items())])
    parts += [f"loss {name} {value:.3f}" for name, value in sorted(point["losses"].items())]
    steps, seconds = point["step"] - first["step"], point["seconds"] - first["seconds"]
    if steps > 0 and seconds > 0:
        shown = sum(point["examples"].values()) - sum(first.get("examples", {}).values())
        left = seconds / steps * (point["steps"] - point["step"])
        parts += [f"{shown / seconds:,.1f} examples/s a worker", f"{duration(left)} left"]
    return ", ".join(parts)
