"""Which files INPUT means.

INPUT is a file, a folder, a glob or a hive-partitioned folder of Parquet, local or in an object store. Hidden
files and folders are skipped, and so are those that begin with `_` (`_SUCCESS`, `_dead_letters`) unless they
are partitions (`_date=2026-11-20`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from luke_batch.base.errors import InputError
from luke_batch.corpus.layout import base_name, join
from luke_batch.corpus.storage import Storage, StoredFile

_MAGIC = re.compile(r"[*?\[]")
_SUFFIXES = (".parquet", ".pq")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of INPUT."""

    path: str
    """Relative to INPUT: to the folder, to the fixed part of the glob, or the name of a single file."""
    partition: str
    """`key=value` folders of the path, such as `date=2026-11-20/lang=de`; empty without partitions."""
    size: int
    version: str
    modified: float
    """Seconds since the epoch; 0 where the store does not say."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of INPUT, sorted by path."""

    storage: Storage
    files: tuple[SourceFile, ...]
    is_folder: bool
    """INPUT is a whole folder, so that whatever is put below it belongs to it."""
    includes: Callable[[str], bool]
    """Whether a file at this path, relative to the storage's root, would belong to INPUT."""


def list_sources(input: str) -> Sources:
    """List INPUT.

    Raises:
        InputError: it does not exist, cannot be listed, or holds no Parquet file.
    """
    try:
        sources = _list(input.rstrip("/") or "/")
    except OSError as error:
        raise InputError(f"INPUT {input} cannot be listed: {error}") from error
    if not sources.files:
        raise InputError(f"INPUT {input} holds no Parquet file (*.parquet, *.pq, neither hidden nor beginning with _)")
    return sources


def source_at(input: str, path: str) -> tuple[Storage, StoredFile] | None:
    """One file of INPUT, by its path in a plan, without listing the others; None where it is gone."""
    input = input.rstrip("/") or "/"
    if _MAGIC.search(input) and not Storage.at(input).has_folder():
        parts = input.split("/")
        first = next(index for index, part in enumerate(parts) if _MAGIC.search(part))
        storage = Storage.at("/".join(parts[:first]) or ("/" if input.startswith("/") else "."))
    else:
        storage = Storage.at(input)
        if not storage.has_folder():  # a single file
            head = input.rpartition("/")[0]
            storage = Storage.at(head or ("/" if input.startswith("/") else "."))
    found = storage.stat(path)
    return None if found is None else (storage, found)


def _list(input: str) -> Sources:
    head, _, name = input.rpartition("/")
    parent = Storage.at(head or ("/" if input.startswith("/") else "."))
    single = parent.stat(name)
    if single is not None:
        return Sources(parent, (_source(single),), False, lambda path: path == name)
    whole = Storage.at(input)
    if whole.has_folder():
        return _sources(whole, _is_parquet, is_folder=True)
    if _MAGIC.search(name) or _MAGIC.search(head):
        return _glob(input)
    raise InputError(f"INPUT {input} does not exist")


def _glob(input: str) -> Sources:
    parts = input.split("/")
    first = next(index for index, part in enumerate(parts) if _MAGIC.search(part))
    root = "/".join(parts[:first]) or ("/" if input.startswith("/") else ".")
    pattern = parts[first:]
    named = pattern[-1].strip("*") != ""
    regex = _translate(pattern)

    def matches(path: str) -> bool:
        if regex.fullmatch(path):
            return named or _is_parquet(path)
        folders = path.split("/")[:-1]
        inside = any(regex.fullmatch("/".join(folders[:depth])) for depth in range(1, len(folders) + 1))
        return inside and _is_parquet(path)

    return _sources(Storage.at(root), matches, is_folder=False)


def _translate(pattern: list[str]) -> re.Pattern[str]:
    """Regular expression of a glob's components: `**` is any number of folders, others stay inside one."""
    out = ""
    for index, part in enumerate(pattern):
        last = index == len(pattern) - 1
        if part == "**":
            out += ".*" if last else "(?:[^/]+/)*"
            continue
        pieces = re.split(r"(\*+|\?|\[!?[^\]]+\])", part)
        out += "".join(_piece(piece) for piece in pieces) + ("" if last else "/")
    return re.compile(out, re.DOTALL)


def _piece(piece: str) -> str:
    if piece.startswith("*"):
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
        return "[" + piece[1:-1].replace("\\", r"\\").replace("!", "^", 1 if piece[1] == "!" else 0) + "]"
    return re.escape(piece)


def _sources(storage: Storage, wanted: Callable[[str], bool], *, is_folder: bool) -> Sources:
    def includes(path: str) -> bool:
        return not _is_hidden(path) and wanted(path)

    files = tuple(_source(file) for file in storage.list() if includes(file.path))
    return Sources(storage, files, is_folder, includes)


def _is_parquet(path: str) -> bool:
    return base_name(path).lower().endswith(_SUFFIXES)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in path.split("/"))


def _source(file: StoredFile) -> SourceFile:
    folders = file.path.split("/")[:-1]
    partition = join(*(part for part in folders if "=" in part))
    return SourceFile(file.path, partition, file.size, file.version, file.modified)
