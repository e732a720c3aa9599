"""The cache folder of compiled alias tables: made once on a machine, then mapped by all its processes.

A folder is named after the content of its table and of what compiles it. It is written under a temporary
name and renamed when it is whole. A lock lets the first of several processes do the work while the others
wait; the rename alone keeps them safe where the lock does not hold. Every file is checked against its
checksum before it is mapped, as the trie's library trusts what it reads; a damaged folder is made again.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock

from luke_batch.base import pulse
from luke_batch.text.names.alias_compile import FILES, Compiled

_MANIFEST = "manifest.json"
_WAIT = 1.0
"""Seconds between two signs of life while another process compiles."""


def cache_folder() -> Path:
    """Where compiled tables lie unless told otherwise; XDG_CACHE_HOME moves it."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "luke-batch" / "aliases"


def folder_name(identity: str, version: int) -> str:
    """Of the table with this `identity`, as our code of `version` and the libraries under it compile it."""
    libraries = f"{unicodedata.unidata_version}\n{importlib.metadata.version('marisa-trie')}"
    return hashlib.sha256(f"{version}\n{libraries}\n{identity}".encode()).hexdigest()[:32]


def compiled_folder(folder: Path, compile: Callable[[Path], Compiled]) -> Compiled:
    """Make sure that `folder` holds a compiled table, calling `compile` with an empty folder if it does not.

    Raises what `compile` does, and OSError where the cache cannot be written.
    """
    found = _checked(folder)
    if found is not None:
        return found
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        return _checked(folder) or _made(folder, compile)


def _made(folder: Path, compile: Callable[[Path], Compiled]) -> Compiled:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        compiled = compile(temporary)
        sums = {name: _checksum(temporary / name) for name in FILES}
        manifest = json.dumps({**asdict(compiled), "files": sums})
        (temporary / _MANIFEST).write_text(manifest, encoding="utf-8")
        if folder.exists():  # damaged; whoever has mapped it keeps what he has
            folder.rename(temporary / "damaged")
        try:
            temporary.rename(folder)
        except OSError:
            if _checked(folder) is None:  # no other process was first
                raise
        shutil.rmtree(folder / "damaged", ignore_errors=True)
        return compiled
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _checked(folder: Path) -> Compiled | None:
    """What the manifest says, where every file is as it was written; None otherwise."""
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        sums = manifest.pop("files")
        if any(_checksum(folder / name) != sums[name] for name in FILES):
            return None
        return Compiled(**manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    lock = filelock.FileLock(folder.with_name(f"{folder.name}.lock"))
    while True:
        try:
            lock.acquire(timeout=_WAIT)
            break
        except filelock.Timeout:
            pulse.beat()
    try:
        yield
    finally:
        lock.release()
