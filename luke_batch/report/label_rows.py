"""Labels of a run as the rows of a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from luke_batch.corpus.statistics import BINS, KINDS, Statistics, totals
from luke_batch.report.charts import histogram, mean_score
from luke_batch.report.relation_names import relation_name


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One label."""

    label: str
    count: int
    share: float
    """Of all labels of its kind."""
    before: float | None
    """Its share in the run before; None where that is not known."""
    mean: float | None
    bars: Sequence[tuple[float, float, int]]
    unscored: int


@dataclass(frozen=True, slots=True)
class LabelTable:
    """One kind of label, most first."""

    kind: str
    total: int
    rows: Sequence[LabelRow]
    gone: Sequence[str]
    """Labels that the run before had and this one has not."""


def label_tables(statistics: Statistics | None, before: Statistics | None) -> list[LabelTable]:
    """A table for each kind that the run looked for and that has any label now or had one before."""
    found: list[LabelTable] = []
    for kind in KINDS if statistics is not None else ():
        assert statistics is not None
        now = statistics.labels.get(kind, {})
        earlier = totals(before.labels.get(kind, {})) if before is not None else {}
        counts = totals(now)
        total, total_before = sum(counts.values()), sum(earlier.values())
        rows = [
            LabelRow(
                label=relation_name(label) if kind == "relations" else label,
                count=count,
                share=count / total,
                before=earlier.get(label, 0) / total_before if total_before else None,
                mean=mean_score(now[label]),
                bars=histogram(now[label]),
                unscored=now[label][BINS],
            )
            for label, count in counts.items()
        ]
        gone = [label for label in earlier if label not in counts]
        if rows or gone:
            found.append(LabelTable(kind, total, rows, gone))
    return found
