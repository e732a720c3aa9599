"""What a head is: a coroutine over one document that asks for forward passes and is sent their outputs.

A head never sees a batch. The stage (`run.py`) advances the heads of many documents side by side and hands
their windows to the engine together, so a head may ask several times (a long text in parts, linking in
rounds) without costing small batches.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from luke_batch.base import meters
from luke_batch.base.arrays import FloatArray
from luke_batch.config import ProposerConfig
from luke_batch.document.state import Document
from luke_batch.model.engine.engine import Task
from luke_batch.model.inputs.windows import InputBuilder, Window

_ITEMS_AT_ONCE = 512
"""Mentions or pairs of a document whose windows are built together: a few full batches."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Forward passes that a head needs for one document."""

    task: Task
    windows: Sequence[Window]


Answer = list[FloatArray]
"""One array for each window of the Ask, in its order; shapes as `Task` says."""

Annotation = Generator[Ask, Answer, None]


@dataclass(frozen=True, slots=True)
class Setup:
    """What every head gets from its checkpoint and the job."""

    builder: InputBuilder
    max_words: int
    """Longest span of `all` and `auto`."""
    whole_document: bool
    """Windows are filled with the text around the sentence."""
    proposers: ProposerConfig
    """Limits and tables of the job."""


class Head(Protocol):
    """One configured head of a loaded checkpoint."""

    name: str

    def annotate(self, document: Document) -> Annotation:
        """Write this head's part of `document`; every model input goes through `ask`."""
        ...


def ask_in_parts(
    document: Document, task: Task, count: int, windows: Callable[[slice], Sequence[Window]]
) -> Generator[Ask, Answer, Answer]:
    """Ask for the windows of `count` items a part at a time, so that a document with very many of them never
    holds all their windows at once. `windows` builds those of a slice of the items.
    """
    answers: Answer = []
    for start in range(0, count, _ITEMS_AT_ONCE):
        with meters.spending("build"):
            part = windows(slice(start, start + _ITEMS_AT_ONCE))
        answers += yield from ask(document, task, part)
    return answers


def ask_each(
    document: Document,
    task: Task,
    count: int,
    windows: Callable[[slice], Sequence[Window]],
    take: Callable[[int, FloatArray], None],
    at_once: int = _ITEMS_AT_ONCE,
) -> Generator[Ask, Answer, None]:
    """`ask_in_parts` for one window an item; `take` gets each output with its item's number, so that a long
    document's outputs are never held together.
    """
    for start in range(0, count, at_once):
        answer = yield from ask(document, task, windows(slice(start, min(start + at_once, count))))
        for number, output in enumerate(answer, start):
            take(number, output)


def ask(document: Document, task: Task, windows: Sequence[Window]) -> Generator[Ask, Answer, Answer]:
    """Ask for `windows` and count them in the document's coverage; no window, no pass."""
    if not windows:
        return []
    document.coverage.windows += len(windows)
    document.coverage.tokens += sum(len(window.token_ids) for window in windows)
    return (yield Ask(task, windows))
