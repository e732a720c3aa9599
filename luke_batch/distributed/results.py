"""What a worker tells the driver about a finished work item."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self, cast

import pyarrow as pa

from luke_batch.corpus.commit import Committed
from luke_batch.distributed.wire import Readings

_RESULT = "result"


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

    @property
    def rows(self) -> int:
        """Documents in the output or in the dead letters."""
        return sum(entry.rows + entry.dead for entry in self.committed)

    @property
    def dead(self) -> int:
        """Documents and fragments in the dead letters."""
        return sum(entry.dead for entry in self.committed) + self.unreadable

    def to_row(self) -> pa.Table:
        """As a Ray row."""
        return pa.table({_RESULT: pa.array([json.dumps(asdict(self))], pa.string())})

    @classmethod
    def from_rows(cls, rows: pa.Table) -> list[Self]:
        """What `to_row` wrote, once for each row."""
        found = [cast("dict[str, Any]", json.loads(text)) for text in rows[_RESULT].to_pylist()]
        return [
            cls(
                tuple(Committed(**one) for one in entry["committed"]),
                entry["unreadable"],
                entry["error"],
                entry["readings"],
            )
            for entry in found
        ]
