"""What a head is: a coroutine over one document that asks for forward passes and is sent their outputs.

A head never sees a batch. The stage (`run.py`) advances the heads of many documents side by side and hands
their windows to the engine together, so a head may ask several times (a long text in parts, linking in
rounds) without costing small batches.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from luke_batch.arrays import FloatArray
from luke_batch.document.state import Document
from luke_batch.model.engine import Task
from luke_batch.model.windows import Window


@dataclass(frozen=True, slots=True)
class Ask:
    """Forward passes that a head needs for one document."""

    task: Task
    windows: Sequence[Window]


Answer = list[FloatArray]
"""One array for each window of the Ask, in its order; shapes as `Task` says."""

Annotation = Generator[Ask, Answer, None]


class Head(Protocol):
    """One configured head of a loaded checkpoint."""

    name: str

    def annotate(self, document: Document) -> Annotation:
        """Write this head's part of `document`; every model input goes through `ask`."""
        ...


def ask(document: Document, task: Task, windows: Sequence[Window]) -> Generator[Ask, Answer, Answer]:
    """Ask for `windows` and count them in the document's coverage; no window, no pass."""
    if not windows:
        return []
    document.coverage.windows += len(windows)
    document.coverage.tokens += sum(len(window.token_ids) for window in windows)
    return (yield Ask(task, windows))
