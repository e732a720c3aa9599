"""Tables and drawings of a report: labels as rows, and the geometry of what a template makes into SVG.

Drawn by hand and not by a plotting library: the few bars and one line of a report inherit the page's colours
in light and dark, stay small, and need neither a script nor fonts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luke_batch.corpus.statistics import BINS, KINDS, Statistics, totals
from luke_batch.report.wording import relation_name

WIDTH, HEIGHT = 640.0, 200.0
_LEFT, _BOTTOM, _TOP = 52.0, 24.0, 18.0
_TICKS = 4
_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis, in units of the drawing, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A rate over time as a step line."""

    points: str
    """For `<polyline>`."""
    area: str
    """The same, closed along the axis."""
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    peak: float
    """Documents a second."""
    rows: Sequence[tuple[str, int, float]]
    """Time, documents, documents a second: the drawing as a table, in at most 12 rows."""


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


def throughput(figures: Mapping[str, Any] | None) -> Line | None:
    """From `Throughput.figures`; None without documents."""
    counts: list[int] = list(figures["documents"]) if figures else []
    if not figures or not any(counts):
        return None
    width = float(figures["seconds"])
    rates = _smoothed([count / width for count in counts])
    end, steps = len(counts) * width, _ticks(max(rates))
    top = max(steps[-1], *rates)
    scale_x, scale_y = (WIDTH - _LEFT - 8) / len(rates), (HEIGHT - _BOTTOM - _TOP) / top
    floor = HEIGHT - _BOTTOM
    corners: list[str] = []
    for number, rate in enumerate(rates):
        y = floor - rate * scale_y
        corners += [f"{_LEFT + place * scale_x:.1f},{y:.1f}" for place in (number, number + 1)]
    last = _LEFT + len(rates) * scale_x
    unit, name = next((size, name) for size, name in _UNITS if end >= 2 * size or size == 1)
    times = [step for step in _ticks(end / unit) if step * unit <= end]
    return Line(
        points=" ".join(corners),
        area=f"{_LEFT:.1f},{floor:.1f} {' '.join(corners)} {last:.1f},{floor:.1f}",
        x_ticks=[Tick(_LEFT + step * unit / width * scale_x, f"{step:g} {name}") for step in times],
        y_ticks=[Tick(floor - step * scale_y, f"{step:g}") for step in steps],
        peak=max(rates),
        rows=_table(counts, width),
    )


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


def histogram(bins: Sequence[int]) -> list[tuple[float, float, int]]:
    """Bars of a score histogram: (from, height as a share of the largest, count)."""
    scored = list(bins[:BINS])
    most = max(scored, default=0) or 1
    return [(number / BINS, count / most, count) for number, count in enumerate(scored)]


def mean_score(bins: Sequence[int]) -> float | None:
    """Of a score histogram, by the middles of its bins."""
    total = sum(bins[:BINS])
    return sum((number + 0.5) / BINS * count for number, count in enumerate(bins[:BINS])) / total if total else None


def _smoothed(rates: Sequence[float]) -> list[float]:
    """Work items end in bursts: each value is the mean of a window of a twentieth of the run."""
    reach = max(len(rates) // 40, 1) if len(rates) > 4 else 0
    windows = (rates[max(number - reach, 0) : number + reach + 1] for number in range(len(rates)))
    return [sum(window) / len(window) for window in windows]


def _ticks(top: float) -> list[float]:
    """Round numbers from 0 to at most one step above `top`."""
    raw = top / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    return [round(step * number, 10) for number in range(math.ceil(top / step * 0.999) + 1)]


def _table(counts: Sequence[int], width: float) -> list[tuple[str, int, float]]:
    group = math.ceil(len(counts) / 12)
    rows: list[tuple[str, int, float]] = []
    for start in range(0, len(counts), group):
        part = counts[start : start + group]
        first, last = start * width, (start + len(part)) * width
        rows.append((f"{first:,.0f} to {last:,.0f} s", sum(part), sum(part) / (last - first)))
    return rows
