"""What a worker tells the driver about a finished work item, and what a run counts of them: its size depends on the
number of labels alone.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any, Self, cast

import pyarrow as pa

from luke_batch.annotate.annotator import StageSpec
from luke_batch.base import meters
from luke_batch.corpus.commit import Committed
from luke_batch.corpus.held import Held
from luke_batch.corpus.statistics import Statistics
from luke_batch.distributed.wire import Readings

READ_STAGE = "read"
TEXT_STAGE = "text"
"""The stage without a model: sentences, words, proposals."""
COMMIT_STAGE = "commit"
_RESULT = "result"
_WORK = {READ_STAGE: ("read",), TEXT_STAGE: ("segment", "propose"), COMMIT_STAGE: ("commit",)}
"""What the tasks around the models do, by the stage that a person is told of."""
_MODEL_WORK = ("build", "forward", "decode")
MOST_POINTS = 240
_FIRST_WIDTH = 1.0
_SAMPLES = 12
_SEED = 0


def named(stages: Sequence[StageSpec]) -> dict[str, StageSpec]:
    """By the name of the model; a model that comes again is numbered."""
    found: dict[str, StageSpec] = {}
    for number, spec in enumerate(stages, start=1):
        found[f"{spec.name} ({number})" if spec.name in found else spec.name] = spec
    return found


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one work item: small, as it travels to the driver."""

    committed: tuple[Committed, ...]
    unreadable: int
    """Fragments that could not be read; each has a dead letter."""
    error: str | None = None
    """Why nothing of the item was committed."""
    readings: Readings = field(default_factory=lambda: Readings())
    """What was counted on the way."""
    statistics: Statistics = field(default_factory=Statistics)
    """Of the committed documents."""

    @property
    def rows(self) -> int:
        """Documents in the output or in the dead letters."""
        return sum(entry.rows + entry.dead for entry in self.committed)

    @property
    def dead(self) -> int:
        """Documents and fragments in the dead letters."""
        return sum(entry.dead for entry in self.committed) + self.unreadable

    @property
    def spent(self) -> dict[str, float]:
        """Seconds of work by stage, those of models by their names; neither loading nor waiting."""
        tasks = {stage: _seconds(self.readings.get("", {}), parts) for stage, parts in _WORK.items()}
        models = {name: _seconds(counts, _MODEL_WORK) for name, counts in self.readings.items() if name}
        return {READ_STAGE: tasks.pop(READ_STAGE), TEXT_STAGE: tasks.pop(TEXT_STAGE), **models, **tasks}

    def to_row(self) -> pa.Table:
        """As a Ray row."""
        told = {
            "committed": [asdict(entry) for entry in self.committed],
            "unreadable": self.unreadable,
            "error": self.error,
            "readings": self.readings,
            "statistics": self.statistics.to_json(),
        }
        return pa.table({_RESULT: pa.array([json.dumps(told)], pa.string())})

    @classmethod
    def from_rows(cls, rows: pa.Table) -> list[Self]:
        """What `to_row` wrote, once for each row."""
        found = [cast("dict[str, Any]", json.loads(text)) for text in rows[_RESULT].to_pylist()]
        return [
            cls(
                committed=tuple(Committed(**c) for c in entry["committed"]),
                unreadable=entry["unreadable"],
                error=entry["error"],
                readings=entry["readings"],
                statistics=Statistics.from_json(entry["statistics"]),
            )
            for entry in found
        ]


def _seconds(counts: meters.Counts, stages: Sequence[str]) -> float:
    return sum(counts.get(f"{meters.SECONDS}/{stage}", 0.0) for stage in stages)


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


@dataclass(slots=True)
class RunTally:
    """Counts, and what a person should know."""

    documents: int = 0
    """Committed."""
    dead: int = 0
    """Documents and fragments in the dead letters."""
    fragments: int = 0
    """Committed."""
    bytes: int = 0
    """Size of the committed files."""
    failures: list[str] = field(default_factory=lambda: list[str]())
    """Why work items are not committed."""
    renamed: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    duplicates: Counter[str] = field(default_factory=lambda: Counter[str]())
    """Documents by source file whose id an earlier one has."""
    spent: dict[str, float] = field(default_factory=lambda: dict[str, float]())
    """Seconds of workers by stage."""
    samples: list[str] = field(default_factory=lambda: list[str]())
    """Some of the committed files with documents, each as likely as any other (Vitter's algorithm R)."""
    statistics: Statistics = field(default_factory=Statistics)
    held: dict[str, Held] = field(default_factory=lambda: dict[str, Held]())
    """What the committed files hold, by their paths."""
    throughput: Throughput = field(default_factory=Throughput)
    _offered: int = 0
    _random: Random = field(default_factory=lambda: Random(_SEED))  # noqa: S311 - no secret depends on it

    def figures(self) -> dict[str, object]:
        """For the run manifest."""
        return {
            "documents": self.documents,
            "dead_letters": self.dead,
            "fragments": self.fragments,
            "bytes": self.bytes,
            "failures": self.failures,
            "duplicate_ids": dict(self.duplicates),
            "spent": {stage: round(seconds, 3) for stage, seconds in self.spent.items()},
            "throughput": self.throughput.figures(),
            "samples": self.samples,
            "statistics": self.statistics.to_json(),
        }

    def add(self, result: ItemResult) -> None:
        """Count a finished work item."""
        self.documents += sum(entry.rows for entry in result.committed)
        self.fragments += len(result.committed)
        self.bytes += sum(entry.bytes for entry in result.committed)
        self.dead += result.dead
        if result.error is not None:
            self.failures.append(result.error)
        for entry in result.committed:
            self._sample(entry)
            if not entry.dead:  # of others the letters are read again
                self.held[entry.path] = Held(entry.version, entry.rows, 0, "")
            self.renamed.update(entry.renamed)
            if entry.duplicate_ids:
                self.duplicates[entry.source] += entry.duplicate_ids
        for stage, seconds in result.spent.items():
            self.spent[stage] = self.spent.get(stage, 0.0) + seconds
        self.statistics.add(result.statistics)
        self.throughput.add(result.rows)

    def _sample(self, entry: Committed) -> None:
        if not entry.rows:
            return
        self._offered += 1
        place = len(self.samples) if len(self.samples) < _SAMPLES else self._random.randrange(self._offered)
        if place < _SAMPLES:
            self.samples[place : place + 1] = [entry.path]
