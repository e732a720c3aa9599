"""What a worker tells the driver about a finished work item."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self, cast

import pyarrow as pa

from luke_batch.base import meters
from luke_batch.corpus.commit import Committed
from luke_batch.corpus.statistics import Statistics
from luke_batch.distributed.stage_names import COMMIT_STAGE, READ_STAGE, TEXT_STAGE
from luke_batch.distributed.wire import Readings

_RESULT = "result"
_WORK = {READ_STAGE: ("read",), TEXT_STAGE: ("segment", "propose"), COMMIT_STAGE: ("commit",)}
"""What the tasks around the models do, by the stage that a person is told of."""
_MODEL_WORK = ("build", "forward", "decode")


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
