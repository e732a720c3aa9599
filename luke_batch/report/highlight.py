"""A text with its mentions as a tree: plain text, and marks that may hold marks.

Mentions may lie inside one another. Two that cross cannot both be drawn: of the one that starts later only
the part inside of the earlier one is marked, with `cut`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Mark:
    """A marked part of the text."""

    label: str | None
    cut: bool = False
    """The mention goes on behind this mark."""
    parts: list["str | Mark"] = field(default_factory=lambda: list["str | Mark"]())


def highlight(text: str, mentions: Sequence[tuple[int, int, str | None]], end: int) -> list[str | Mark]:
    """The text up to `end`.

    Args:
        text: the document. mentions: (start, end, label), sorted by (start, -end); those that do not lie
        before `end` are left out. end: code points.
    """
    root = Mark(None)
    open_marks: list[tuple[int, Mark]] = [(end, root)]
    position = 0

    def advance(to: int) -> None:
        """Append the text up to `to`, closing the marks that end before."""
        nonlocal position
        while len(open_marks) > 1 and open_marks[-1][0] <= to:
            stop, mark = open_marks.pop()
            _append(mark, text[position:stop])
            position = stop
        _append(open_marks[-1][1], text[position:to])
        position = to

    for start, stop, label in mentions:
        if not 0 <= start < stop <= end:
            continue
        advance(start)
        limit = open_marks[-1][0]
        mark = Mark(label, cut=stop > limit)
        open_marks[-1][1].parts.append(mark)
        open_marks.append((min(stop, limit), mark))
    advance(end)
    return root.parts


def _append(mark: Mark, text: str) -> None:
    if text:
        mark.parts.append(text)
