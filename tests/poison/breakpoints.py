"""Processes that write into an OUTPUT stop at the write that somebody waits for.

    LUKE_BATCH_BREAKPOINTS/order      the number of that write or removal, among those of all processes
                          /0001       one file for each so far
                          /reached    process id of the one that stands there
                          /go         it goes on

Writes and removals count below OUTPUT/data and OUTPUT/_dead_letters, just before they happen.
"""

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.machinery import ModuleSpec
from itertools import count
from pathlib import Path
from typing import Any, cast

_STORAGE = "luke_batch.corpus.storage"
_READING = {"at", "absolute", "temporary_path", "list", "stat", "has_folder", "open", "read_bytes", "read_range"}
_PLACES = ("data/", "_dead_letters/")
_PATIENCE_SECONDS = 300.0


def install() -> None:
    """Change `Storage` as soon as this process imports it."""
    sys.meta_path.insert(0, cast("Any", _Finder()))


class _Finder:
    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != _STORAGE:
            return None
        sys.meta_path.remove(cast("Any", self))
        spec = importlib.util.find_spec(name)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def and_watch(module: Any) -> None:
            execute(module)
            for method, function in list(vars(module.Storage).items()):
                if callable(function) and not method.startswith("_") and method not in _READING:
                    setattr(module.Storage, method, _watched(function))

        loader.exec_module = and_watch
        return spec


def _watched(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(storage: Any, what: Any, *arguments: Any, **options: Any) -> Any:
        paths: Iterable[Any] = [what] if isinstance(what, str) else what
        if any(str(path).startswith(_PLACES) for path in paths):
            _pass(Path(os.environ["LUKE_BATCH_BREAKPOINTS"]))
        return function(storage, what, *arguments, **options)

    return wrapped


def _number(folder: Path) -> int:
    """Of this write among all."""
    for number in count(1):
        with suppress(FileExistsError):
            (folder / f"{number:04}").touch(exist_ok=False)
            return number
    raise AssertionError


def _pass(folder: Path) -> None:
    try:
        order = int((folder / "order").read_text())
    except (FileNotFoundError, ValueError):
        return
    if _number(folder) == order:
        (folder / "reached.part").write_text(str(os.getpid()))
        (folder / "reached.part").rename(folder / "reached")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
