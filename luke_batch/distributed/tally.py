"""What a run itself has done, counted as results come in: its size depends on the number of labels alone."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from luke_batch.corpus.commit import Committed
from luke_batch.corpus.statistics import Statistics
from luke_batch.distributed.results import ItemResult
from luke_batch.distributed.throughput import Throughput

_SAMPLES = 12
_SEED = 0


@dataclass(slots=True)
class Tally:
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
