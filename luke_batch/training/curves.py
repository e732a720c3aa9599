"""Loss and dev curves as a picture, where matplotlib is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

PICTURE = "curves.svg"


def draw(curve: list[dict[str, Any]], folder: Path) -> bool:
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
            axes.plot(
                [point["step"] for point in own],
                [point[key][name] for point in own],
                label=name,
                marker="." if key == "dev" else "",
            )
        axes.set(title=title, xlabel="step")
        if names:
            axes.legend()
    with mpl.rc_context({"svg.hashsalt": "luke-batch"}):
        figure.savefig(folder / PICTURE, metadata={"Date": None})
    return True
