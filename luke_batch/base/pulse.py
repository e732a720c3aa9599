"""Signs of life of long work, for whoever watches over this process.

One listener a process, as there is one watcher: a process that works for itself has none.
"""

from collections.abc import Callable

Listener = Callable[[str | None], None]

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Tell `listener` of every beat from now on."""
    _listeners[:] = [listener]


def beat(stage: str | None = None) -> None:
    """Work advances; `stage` is named where another one begins."""
    for listener in _listeners:
        listener(stage)
