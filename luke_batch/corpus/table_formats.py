"""Folders that are Delta Lake or Iceberg tables: which of their Parquet files are current.

Such a folder also holds files that the table no longer has (rewritten or deleted ones, until they are vacuumed), so
a listing alone would annotate documents that are gone. The table's own library is asked, lazily, and only for the
names of current files; these are read like those of any folder. What would need more than that is refused by name:
rows that are deleted within a file, columns that are called differently in files, files outside of the folder.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, cast
from urllib.parse import unquote

import pyarrow as pa

from luke_batch.base.errors import InputError, MissingDependencyError
from luke_batch.corpus.storage import Storage, StoredFile, join

Kind = Literal["Delta", "Iceberg"]

_DELTA_LOG = re.compile(r"(?:^|(.*)/)_delta_log/[^/]+\.(?:json|parquet)")
_METADATA = re.compile(r"(?:^|(.*)/)metadata/(?:v|)(\d+)[^/]*\.metadata\.json")
_VERSION_HINT = "metadata/version-hint.text"
_LIBRARIES: Mapping[Kind, str] = {"Delta": "deltalake", "Iceberg": "pyiceberg"}


def table_folders(files: Iterable[StoredFile]) -> dict[str, Kind]:
    """Folders (relative to the listing; empty: its root) that hold a table."""
    found: dict[str, Kind] = {}
    for file in files:
        if "_delta_log/" in file.path and (match := _DELTA_LOG.fullmatch(file.path)):
            found[match[1] or ""] = "Delta"
        elif file.path.endswith(".metadata.json") and (match := _METADATA.fullmatch(file.path)):
            found.setdefault(match[1] or "", "Iceberg")
    return found


def live_files(kind: Kind, storage: Storage, listed: Sequence[StoredFile]) -> tuple[StoredFile, ...]:
    """The files that a table has at its current version, by path.

    Args:
        kind: of the table. storage: its folder. listed: everything below that.

    Raises:
        InputError: the table cannot be read, or its files alone do not say which rows it has.
        MissingDependencyError: its library is not installed.
    """
    try:
        paths = _delta_paths(storage) if kind == "Delta" else _iceberg_paths(storage, listed)
    except (InputError, MissingDependencyError):
        raise
    except ImportError as error:
        library = _LIBRARIES[kind]
        raise MissingDependencyError(
            f"INPUT {storage.url} is a table of {kind}, which needs {library}:"
            f' pip install "luke-batch[tables]", or pip install {library}'
        ) from error
    except Exception as error:  # each library has its own bases, and those of the stores below
        message = " ".join(str(error).split())
        raise InputError(f"INPUT {storage.url}: the {kind} table cannot be read: {message}") from error
    known = {file.path: file for file in listed}
    for path in paths:
        if path not in known:
            raise InputError(
                f"INPUT {storage.url}: the {kind} table names {path}, which is not there; repair or restore the table"
            )
    return tuple(known[path] for path in sorted(paths))


def refuse_tables_below(storage: Storage, tables: Mapping[str, Kind], files: Iterable[StoredFile]) -> None:
    """Raise InputError where one of `files` lies in a table that is not the whole INPUT."""
    for file in files:
        for folder, kind in tables.items():
            if not folder or file.path.startswith(folder + "/"):
                raise InputError(
                    f"{file.path} lies in the {kind} table {storage.absolute(folder) if folder else storage.url}, which"
                    " alone says which of its files are current; give its folder as INPUT, with --where for a part"
                )


def _delta_paths(storage: Storage) -> list[str]:
    deltalake: Any = import_module("deltalake")
    table: Any = deltalake.DeltaTable(
        storage.root if storage.is_local else storage.url, storage_options=_store_options()
    )
    if (table.metadata().configuration or {}).get("delta.columnMapping.mode", "none") != "none":
        raise InputError(
            f"INPUT {storage.url}: the Delta table maps column names (delta.columnMapping.mode), so that its files have"
            " others; write it anew without that, or give a copy in Parquet"
        )
    if "deletionVectors" in (table.protocol().reader_features or []):
        _refuse_deletion_vectors(storage, table)
    paths: list[str] = []
    for row in cast("list[dict[str, Any]]", pa.table(table.get_add_actions(flatten=False)).to_pylist()):
        path = unquote(row["path"])
        if "://" in path or path.startswith("/"):
            raise InputError(f"INPUT {storage.url}: the Delta table has a file elsewhere, {path}; give a copy of it")
        missing = set(row.get("partition") or {}) - {unquote(part.partition("=")[0]) for part in path.split("/")[:-1]}
        if missing:
            raise InputError(
                f"INPUT {storage.url}: the path {path} of the Delta table does not say {', '.join(sorted(missing))};"
                " give a copy with hive partitions"
            )
        paths.append(path)
    return paths


def _refuse_deletion_vectors(storage: Storage, table: Any) -> None:
    try:
        found = any(len(batch) for batch in table.deletion_vectors())
    except Exception:  # one that cannot be read is one
        found = True
    if found:
        raise InputError(
            f"INPUT {storage.url}: rows of the Delta table are deleted by deletion vectors, so that its files still"
            " have them; REORG TABLE … APPLY (PURGE) rewrites these files"
        )


def _iceberg_paths(storage: Storage, listed: Sequence[StoredFile]) -> list[str]:
    library: Any = import_module("pyiceberg.table")
    options = {} if storage.is_local else {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"}
    home = storage.root if storage.is_local else storage.url
    table: Any = library.StaticTable.from_metadata(join(home, _current_metadata(storage, listed)), options)
    root = table.location()
    if _place(root) != _place(home):
        raise InputError(f"INPUT {storage.url}: the Iceberg table says that it lies in {root}; give that as INPUT")
    names: dict[int, set[str]] = {}
    for schema in table.schemas().values():
        for field in schema.fields:
            names.setdefault(field.field_id, set()).add(field.name)
    renamed = sorted(min(each) for each in names.values() if len(each) > 1)
    if renamed:
        raise InputError(
            f"INPUT {storage.url}: columns of the Iceberg table were renamed ({', '.join(renamed)}), and its older"
            " files have the names of before; write the table anew, or give a copy in Parquet"
        )
    paths: list[str] = []
    for task in table.scan().plan_files():
        path = task.file.file_path
        if task.delete_files:
            raise InputError(
                f"INPUT {storage.url}: rows of the Iceberg table are deleted by delete files, so that {path} still has"
                " them; CALL system.rewrite_data_files with delete-file-threshold 1 rewrites it"
            )
        if not path.startswith(root.rstrip("/") + "/") or task.file.file_format != "PARQUET":
            raise InputError(
                f"INPUT {storage.url}: {path} of the Iceberg table is no Parquet file below {root}; give a copy of it"
            )
        paths.append(path.removeprefix(root.rstrip("/") + "/"))
    return paths


def _current_metadata(storage: Storage, listed: Sequence[StoredFile]) -> str:
    """What the version hint names, else the metadata file with the highest number."""
    numbered: list[tuple[int, str]] = []
    for file in listed:
        match = _METADATA.fullmatch(file.path)
        if match and not match[1]:
            numbered.append((int(match[2]), file.path))
    if any(file.path == _VERSION_HINT for file in listed):
        hint = storage.read_bytes(_VERSION_HINT).decode().strip()
        for number, path in numbered:
            if hint in (str(number), path.removeprefix("metadata/").removesuffix(".metadata.json")):
                return path
        raise InputError(f"INPUT {storage.url}: {_VERSION_HINT} names {hint!r}, which is not there; mend the table")
    newest = max(numbered)
    rivals = [path for number, path in numbered if number == newest[0]]
    if len(rivals) > 1:
        raise InputError(
            f"INPUT {storage.url}: the Iceberg table has two newest versions, {' and '.join(rivals)}; put the name"
            f" of the one that its catalog has, without .metadata.json, into {_VERSION_HINT}"
        )
    return newest[1]


def _place(url: str) -> str:
    """A folder by one name."""
    if url.startswith("file:") or "://" not in url:
        return os.path.realpath(re.sub(r"^file:/*", "/", url))
    return re.sub(r"^s3[an]://", "s3://", url).rstrip("/")


def _store_options() -> dict[str, str] | None:
    """The library takes keys and endpoint from AWS_*; an endpoint without TLS it has to be told of."""
    return {"allow_http": "true"} if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://") else None
