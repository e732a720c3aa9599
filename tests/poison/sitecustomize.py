"""Makes texts poisonous: put this folder on PYTHONPATH, and the child processes of a run obey them.

A text that contains `POISON(deed@stage)` makes its process raise, end, hang or allocate in that stage. `ill`
raises as long as the folder LUKE_BATCH_POISON holds no file `well`, and `once_NAME` the first time. In the name of a
source file `POISON(deed@read)` does so where its rows are read, and `@footer` where its footer is. Python imports
this module by its name, in every process; only those of `luke_batch.isolation.child` are changed, and with
LUKE_BATCH_BREAKPOINTS those that write (`breakpoints.py`).
"""

import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_STATE = os.environ.get("LUKE_BATCH_POISON", "")
_ORDER = re.compile(r"POISON\((\w+)@(\w+)\)")


def _raise() -> None:
    raise ZeroDivisionError("a defect of the stage")


def _end() -> None:
    os._exit(7)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    time.sleep(3600)


def _hold() -> None:
    """Hangs in native code that holds the interpreter."""
    re.match("(a+)+$", "a" * 64 + "b")


def _allocate() -> None:
    """Without end, though without touching what it gets."""
    import numpy as np

    kept: list[object] = []
    while True:
        kept.append(np.empty(1 << 28, np.uint8))


def _abort() -> None:
    """As a native library does that gets no memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # writing a core takes seconds
    try:
        _allocate()
    except MemoryError:
        os.abort()


def _ill() -> None:
    if _STATE and not os.path.exists(f"{_STATE}/well"):  # noqa: PTH110 - pathlib is slow to import everywhere
        raise ZeroDivisionError("ill")


def _once(name: str) -> None:
    if _STATE:
        with suppress(FileExistsError), open(f"{_STATE}/{name}", "x"):  # noqa: PTH123 - the same
            raise ZeroDivisionError("the first time")


_ALL = (_raise, _end, _kill, _hang, _hold, _allocate, _abort, _ill, _once)
_DEEDS: dict[str, Callable[..., None]] = {function.__name__[1:]: function for function in _ALL}


def _obey(text: str, stage: str) -> None:
    for deed, where in _ORDER.findall(text):
        if where == stage:
            name, *arguments = deed.split("_")
            _DEEDS[name](*arguments)


def _poison() -> None:
    from luke_batch.corpus import footers, read
    from luke_batch.heads import run
    from luke_batch.text import segmenter

    advance, segment = run._advance, segmenter.sentences
    take, parse = read._Cursor.take, footers.parse

    class Annotation:
        """Obeys before it asks its first question."""

        def __init__(self, inner: Any, text: str, stage: str) -> None:
            self.send = inner.send
            self._inner, self._text, self._stage = inner, text, stage

        def __next__(self) -> Any:
            _obey(self._text, self._stage)
            return next(self._inner)

    def advance_poisoned(head: Any, document: Any, annotation: Any, answer: Any) -> Any:
        wrapped: Any = annotation if answer is not None else Annotation(annotation, document.text, head.name)
        return advance(head, document, wrapped, answer)

    def segment_poisoned(text: str, *settings: Any) -> Any:
        _obey(text, "segment")
        return segment(text, *settings)

    def take_poisoned(self: Any, start: int, end: int) -> Any:
        _obey(self.path, "read")
        return take(self, start, end)

    def parse_poisoned(tail: Any) -> Any:
        _obey(tail.path, "footer")
        return parse(tail)

    run._advance = advance_poisoned
    read._Cursor.take = take_poisoned
    footers.parse = parse_poisoned
    segmenter.sentences = segment_poisoned


if "luke_batch.isolation.child" in sys.orig_argv:
    _poison()
elif "LUKE_BATCH_BREAKPOINTS" in os.environ:
    import breakpoints

    breakpoints.install()
