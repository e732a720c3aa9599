"""The curve of a run: a line of JSON for each point, appended as they come, and its picture.

A point has `step`, `steps` and `seconds`, and either `losses` and `examples`, or `dev`: scores by head; or `note`, a
line for people.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Point = dict[str, Any]

PICTURE = "curves.svg"


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
    latest = {(point["step"], "dev" in point, "note" in point): point for point in points}
    return [latest[key] for key in sorted(latest)]


def draw(curve: list[Point], folder: Path) -> bool:
    """Write curves.svg into the folder; whether matplotlib is there to do it."""
    if find_spec("matplotlib") is None or not curve:
        return False
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Without a display, without a date: the same run draws the same picture.
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for axes, key, title in ((losses, "losses", "loss in training"), (scores, "dev", "score on dev")):
        points = [point for point in curve if key in point]
        names = sorted({name for point in points for name in point[key]})
        for name in names:
            own = [point for point in points if name in point[key]]
            steps, values = [point["step"] for point in own], [point[key][name] for point in own]
            axes.plot(steps, values, label=name, marker="." if key == "dev" else "")
        axes.set(title=title, xlabel="step")
        if names:
            axes.legend()
    with mpl.rc_context({"svg.hashsalt": "luke-batch"}):
        figure.savefig(folder / PICTURE, metadata={"Date": None})
    return True
