"""The Parquet file of an alias table (schemas/aliases.v1.json): its rows, and what its content hashes to."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from luke_batch.base.contracts import load_contract
from luke_batch.base.errors import ConfigError, InputError, LukeBatchError, MissingDependencyError
from luke_batch.base.section import EMBEDDED

EMBEDDED_FILE = Path(__file__).parents[2] / "embedded" / "aliases.parquet"

_OPTIONAL = "qid"
_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_REFUSED: dict[str, tuple[str, str, str | int]] = {
    "name": ("empty", "equal", ""),
    "title": ("empty", "equal", ""),
    "count": ("negative", "less", 0),
}
"""Column -> what its values must not be, and the comparison that finds it."""


def aliases_hash(path: str) -> str:
    """SHA-256 of the bytes of an alias table, for the fingerprint: 64 hexadecimal digits.

    `path` as for `read_aliases`. Raises InputError and MissingDependencyError as it does.
    """
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(path: str) -> str:
    """A text that changes whenever the file does: its hash, or, of a URL, what the store says of its version
    (ETag or fsspec's checksum), so that a table that is compiled already is not downloaded.
    """
    if "://" not in path:
        return aliases_hash(path)
    with _readable(path):
        filesystem, name = cast("tuple[Any, str]", fsspec.core.url_to_fs(path))
        filesystem.invalidate_cache()  # the process may have listed an older content
        info = cast("dict[str, Any]", filesystem.info(name))
        return f"{path}\n{info['size']}\n{info.get('ETag') or filesystem.checksum(name)}"


def read_aliases(path: str) -> tuple[pa.Table, str]:
    """The rows as name, title, qid (large_string) and count (int64), in the order of the file, at least one;
    and the SHA-256 of the bytes that they were read from.

    `path`: a local file, a URL that fsspec knows, or "embedded" for the table inside the package.

    Raises:
        ConfigError: a column is missing or of another type.
        InputError: a file that cannot be read, no row, a null or empty name or title, a null or negative
            count. Names of white space alone are found by whoever normalises them.
        MissingDependencyError: the URL needs a library that is not installed.
    """
    import pyarrow.parquet as pq

    with _readable(path), _opened(path) as file:
        content_hash = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        parquet = pq.ParquetFile(file)
        contract = load_contract("aliases")
        found = parquet.schema_arrow
        missing = [name for name in contract.types if name not in found.names and name != _OPTIONAL]
        if missing:
            raise ConfigError(
                f"alias table {path}: no column {', '.join(missing)} (there are {', '.join(found.names)}); "
                "`luke-batch aliases build` writes such a table"
            )
        table = parquet.read(columns=[name for name in contract.types if name in found.names])
        table.validate(full=True)  # else text that is no UTF-8 would be found much later
    if not table.num_rows:
        raise InputError(f"alias table {path} has no row; `luke-batch aliases build` writes such a table")
    if _OPTIONAL not in table.column_names:
        table = table.append_column(_OPTIONAL, pa.nulls(table.num_rows, pa.string()))
    columns = {name: _converted(table[name], name, contract.field(name).type, path) for name in contract.types}
    _check_values(columns, path)
    return pa.table(columns), content_hash


def _converted(column: pa.ChunkedArray, name: str, wanted: pa.DataType, path: str) -> pa.ChunkedArray:
    """`column` as int64 or large_string."""
    where = f"alias table {path}: column {name!r}"
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_integer(wanted):
        fits = pa.types.is_integer(kind)
    else:
        fits = any(is_text(kind) for is_text in _TEXT_TYPES) or (name == _OPTIONAL and pa.types.is_null(kind))
    if not fits:
        raise ConfigError(f"{where} is {column.type}, not {wanted}; give it that type")
    try:
        return column.cast(wanted if pa.types.is_integer(wanted) else pa.large_string())
    except pa.ArrowInvalid as error:  # an unsigned count that is too large
        raise InputError(f"{where}: {error}; counts are at most {2**63 - 1}") from error


def _check_values(columns: dict[str, pa.ChunkedArray], path: str) -> None:
    for name, (bad, comparison, limit) in _REFUSED.items():
        column = columns[name]
        faults = {"null": column.is_null(), bad: pc.call_function(comparison, [column, pa.scalar(limit)])}
        for what, fault in faults.items():
            rows = np.flatnonzero(fault.fill_null(False).to_numpy())
            if len(rows):
                raise InputError(
                    f"alias table {path}: column {name!r} is {what} in {len(rows)} rows, row {rows[0]} first;"
                    " mend or remove them"
                )


@contextmanager
def _opened(path: str) -> Generator[Any]:
    with _readable(path), fsspec.open(str(EMBEDDED_FILE) if path == EMBEDDED else path, "rb") as file:
        yield file


@contextmanager
def _readable(path: str) -> Generator[None]:
    """Whatever keeps the file from being read, as an error of ours."""
    try:
        yield
    except LukeBatchError:
        raise
    except ImportError as error:
        protocol = path.partition("://")[0]
        raise MissingDependencyError(
            f"alias table {path}: the fsspec library for {protocol}:// is not installed ({error})"
        ) from error
    except Exception as error:  # each store has its own bases, botocore's among them
        cause = " ".join(str(error).split())
        raise InputError(
            f"alias table {path}: cannot be read ({cause}); check the path, the access rights and the file"
        ) from error
