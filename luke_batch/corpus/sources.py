"""Which files INPUT means, and which partitions of it `--where` asks for.

INPUT is a file, a folder, a glob or a hive-partitioned folder of Parquet, local or in an object store. Hidden
files and folders are skipped, and so are those that begin with `_` (`_SUCCESS`, `_dead_letters`) unless they
are partitions (`_date=2026-11-20`). Of a Delta or Iceberg table its current files are taken (`table_formats.py`).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

from luke_batch.base.errors import ConfigError, InputError
from luke_batch.corpus.storage import Storage, StoredFile, base_name
from luke_batch.corpus.table_formats import live_files, refuse_tables_below, table_folders

_MAGIC = re.compile(r"[*?\[]")
_SUFFIXES = (".parquet", ".pq")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""The value of a partition key that stands for null."""
_SHOWN = 10
"""Values that a message lists."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of INPUT, sorted by path. Their paths are relative to the folder, to the fixed part of the glob,
    or the name of a single file.
    """

    storage: Storage
    files: tuple[StoredFile, ...]
    is_folder: bool
    """INPUT is a whole folder, so that whatever is put below it belongs to it."""
    includes: Callable[[str], bool]
    """Whether a file at this path, relative to the storage's root, would belong to INPUT."""


@dataclass(frozen=True, slots=True)
class Restriction:
    """Partition keys with the values that are wanted (`--where KEY=VALUE`); without any, everything is."""

    wanted: Mapping[str, frozenset[str]] = field(default_factory=lambda: dict[str, frozenset[str]]())

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Self:
        """From `key=value` texts: several values of one key mean any of them, several keys all of them.

        Raises:
            ConfigError: a text is not of that form.
        """
        wanted: dict[str, set[str]] = {}
        for text in texts:
            key, equals, value = text.partition("=")
            if not equals or not key.strip():
                raise ConfigError(f"--where {text}: expected key=value, for example date=2026-11-20")
            wanted.setdefault(key.strip(), set()).add(value)
        return cls({key: frozenset(values) for key, values in wanted.items()})

    def __bool__(self) -> bool:
        return bool(self.wanted)

    def matches(self, partition: str) -> bool:
        """Whether what lies in `partition` (`key=value/…`) is wanted."""
        if not self.wanted:
            return True
        found = partition_values(partition)
        return all(found.get(key) in values for key, values in self.wanted.items())

    def select(self, files: Sequence[StoredFile]) -> tuple[StoredFile, ...]:
        """The wanted ones of INPUT's files.

        Raises:
            InputError: no file has such a key, or none lies in such a partition.
        """
        kept = tuple(file for file in files if self.matches(file.partition))
        if not kept:
            self._explain({file.partition for file in files})
        return kept

    def _explain(self, partitions: set[str]) -> None:
        known: dict[str, set[str]] = {}
        for folders in partitions:
            for key, value in partition_values(folders).items():
                known.setdefault(key, set()).add(value)
        for key, values in self.wanted.items():
            if key not in known:
                others = f"its partition keys are {_listed(known)}" if known else "it has no partitions"
                raise InputError(f"--where {key}=…: INPUT has no partition key {key!r}; {others}")
            if not values & known[key]:
                missing = " or ".join(f"{key}={value}" for value in sorted(values))
                raise InputError(f"--where: INPUT has no partition {missing}; it has {_listed(known[key])}")
        all_of = " and ".join(f"{key}={'|'.join(sorted(values))}" for key, values in self.wanted.items())
        raise InputError(f"--where: no file of INPUT lies in {all_of}; leave one of the keys out")


def partition_values(partition: str) -> dict[str, str]:
    """Key -> value of the folders `key=value/…`, percent-decoded as Hive writers encode them."""
    pairs = (part.partition("=") for part in partition.split("/"))
    return {unquote(key): unquote(value) for key, equals, value in pairs if equals}


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
    storage = Storage.at(input)
    if not storage.has_folder():
        storage = _fixed_part(input)[0] if _MAGIC.search(input) else _parent(input)
    found = storage.stat(path)
    return None if found is None else (storage, found)


def _list(input: str) -> Sources:
    parent, name = _parent(input), base_name(input)
    single = parent.stat(name)
    if single is not None:
        return Sources(parent, (single,), False, lambda path: path == name)
    whole = Storage.at(input)
    if whole.has_folder():
        return _sources(whole, _is_parquet, is_folder=True)
    if not _MAGIC.search(input):
        raise InputError(f"INPUT {input} does not exist")
    root, pattern = _fixed_part(input)
    named = pattern[-1].strip("*") != ""
    regex = _translate(pattern)

    def matches(path: str) -> bool:
        if regex.fullmatch(path):
            return named or _is_parquet(path)
        folders = path.split("/")[:-1]
        inside = any(regex.fullmatch("/".join(folders[:depth])) for depth in range(1, len(folders) + 1))
        return inside and _is_parquet(path)

    return _sources(root, matches, is_folder=False)


def _parent(path: str) -> Storage:
    return _folder(path, path.rpartition("/")[0])


def _fixed_part(glob: str) -> tuple[Storage, list[str]]:
    """The folder in which a glob begins, and its components below."""
    parts = glob.split("/")
    first = next(index for index, part in enumerate(parts) if _MAGIC.search(part))
    return _folder(glob, "/".join(parts[:first])), parts[first:]


def _folder(path: str, head: str) -> Storage:
    return Storage.at(head or ("/" if path.startswith("/") else "."))


def _translate(pattern: list[str]) -> re.Pattern[str]:
    """Regular expression of a glob's components: `**` is any number of folders, others stay inside one."""
    from fsspec.utils import glob_translate  # INPUT without a glob does without it

    parts = (part if part == "**" else re.sub(r"\*+", "*", part) for part in pattern)
    return re.compile(glob_translate("/".join(parts)))


def _sources(storage: Storage, wanted: Callable[[str], bool], *, is_folder: bool) -> Sources:
    def includes(path: str) -> bool:
        return not _is_hidden(path) and wanted(path)

    listed = storage.list()
    tables = table_folders(listed)
    if is_folder and "" in tables:
        return Sources(storage, live_files(tables[""], storage, listed), is_folder, includes)
    files = tuple(file for file in listed if includes(file.path))
    if tables:
        refuse_tables_below(storage, tables, files)
    return Sources(storage, files, is_folder, includes)


def _is_parquet(path: str) -> bool:
    return base_name(path).lower().endswith(_SUFFIXES)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in path.split("/"))


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more
