"""What a person sees of a run: a bar on a terminal, a plain line every ten seconds elsewhere, nothing when quiet."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from luke_batch.distributed.results import ItemResult

_LINE_SECONDS = 10.0


@dataclass(slots=True)
class Meter:
    """What is done of all that a run has to do, and how fast."""

    all_fragments: int
    all_documents: int
    clock: Callable[[], float] = time.monotonic
    fragments: int = 0
    documents: int = 0
    dead: int = 0
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def add(self, result: ItemResult) -> None:
        """Count a finished work item."""
        self.fragments += len(result.committed) + result.unreadable
        self.documents += result.rows
        self.dead += result.dead

    def describe(self) -> str:
        """One line: how much of how much, rate, time left, dead letters."""
        seconds = max(self.clock() - self.started, 1e-9)
        parts = [
            f"{self.fragments:,}/{self.all_fragments:,} fragments",
            f"{self.documents:,}/{self.all_documents:,} documents",
        ]
        if self.documents:
            rate = self.documents / seconds
            left = max(self.all_documents - self.documents, 0) / rate
            parts += [f"{rate:,.1f} documents/s", f"{duration(left)} left"]
        else:
            parts.append(f"starting for {duration(seconds)}")
        if self.dead:
            parts.append(f"{self.dead:,} dead letter" + ("" if self.dead == 1 else "s"))
        return ", ".join(parts)


class ProgressReport:
    """Shows a meter while it is entered; `update` counts a result."""

    def __init__(self, meter: Meter, stream: TextIO | None, line_seconds: float = _LINE_SECONDS) -> None:
        """Show `meter` on `stream`; on nothing where that is None."""
        self._meter = meter
        self._stream = stream
        self._line_seconds = line_seconds
        self._stop = threading.Event()
        self._show = threading.Thread(target=self._run, daemon=True, name="luke-batch progress")

    def __enter__(self) -> Self:
        if self._stream is not None:
            self._show.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._stream is not None:
            self._show.join()

    def update(self, result: ItemResult) -> None:
        """Count a finished work item."""
        self._meter.add(result)

    def _run(self) -> None:
        assert self._stream is not None
        if self._stream.isatty():
            self._run_bar(self._stream)
            return
        while not self._stop.wait(self._line_seconds):
            self._stream.write(self._meter.describe() + "\n")
            self._stream.flush()

    def _run_bar(self, stream: TextIO) -> None:
        columns = (BarColumn(20), TextColumn("{task.percentage:>3.0f}%"), _Description())
        with Progress(*columns, console=Console(file=stream), transient=True) as bar:
            task = bar.add_task("", total=max(self._meter.all_documents, 1))
            while not self._stop.wait(0.2):
                bar.update(task, completed=self._meter.documents, description=self._meter.describe())


class _Description(ProgressColumn):
    def render(self, task: Task) -> Text:
        """The meter's line, cut to the terminal's width and never wrapped."""
        return Text(task.description, overflow="ellipsis", no_wrap=True)


def duration(seconds: float) -> str:
    """Hours and minutes, minutes and seconds, or seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
