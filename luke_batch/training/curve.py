"""The curve of a run: a line of JSON for each point, appended as they come.

A point has `step`, `steps` and `seconds`, and either `losses` and `examples`, or `dev`: scores by head.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Point = dict[str, Any]


def append(file: Path, point: Point) -> None:
    """One point more."""
    with file.open("a", encoding="utf-8") as lines:
        # A kill may have cut the last line short: a new one begins in any case.
        lines.write("\n" + json.dumps(point) + "\n")


def parse(lines: Iterable[str]) -> list[Point]:
    """The points of these lines, in order; lines that a kill cut short are left out."""
    points: list[Point] = []
    for line in lines:
        try:
            points.append(json.loads(line))
        except ValueError:
            continue
    return points


def read_curve(file: Path) -> list[Point]:
    """All points in order of their steps; of a step that a killed run took twice the later one."""
    if not file.exists():
        return []
    points = parse(file.read_text(encoding="utf-8").splitlines())
    latest = {(point["step"], "dev" in point): point for point in points}
    return [latest[key] for key in sorted(latest)]
