"""An alias table from its Parquet file (schemas/aliases.v1.json) to files that are mapped into memory: two static tries
of names, and arrays of numbers.

names.marisa    normalised names; a name's number is its key's id in the trie
folded.marisa   the same names without case
first.npy       (names + 1,) int64: entries of name i are [first[i], first[i + 1])
title.npy       (entries,) int32 index into titles, by falling count, then title
count.npy       (entries,) int64 links of the name to the title
variants.npy    (folded + 1,) int64: names of folded name i are variant[variants[i]:variants[i + 1]]
variant.npy     (names,) int32 number of a name
titles.arrow    title and qid, sorted by title: one batch of an Arrow IPC file

They are made once on a machine, in a folder that is named after the content of the table and of what compiles it. It is
written under a temporary name and renamed when it is whole. A lock lets the first of several processes do the work
while the others wait; the rename alone keeps them safe where the lock does not hold. Every file is checked against its
checksum before it is mapped, as the trie's library trusts what it reads; a damaged folder is made again.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

import filelock
import fsspec
import marisa_trie
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.base import meters
from luke_batch.base.allocator import return_freed_memory
from luke_batch.base.contracts import load_contract
from luke_batch.base.errors import ConfigError, InputError
from luke_batch.base.section import EMBEDDED
from luke_batch.text.names.content import opened, readable
from luke_batch.text.names.name_forms import fold, normalise

Longs = NDArray[np.int64]

FILES = (
    *("names.marisa", "folded.marisa", "titles.arrow"),
    *("first.npy", "title.npy", "count.npy", "variants.npy", "variant.npy"),
)
EMBEDDED_FILE = Path(__file__).parents[2] / "embedded" / "aliases.parquet"

_OPTIONAL = "qid"
_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_REFUSED: dict[str, tuple[str, str, str | int]] = {
    "name": ("empty", "equal", ""),
    "title": ("empty", "equal", ""),
    "count": ("negative", "less", 0),
}
"""Column -> what its values must not be, and the comparison that finds it."""
_ROWS = 1 << 16
"""Names that are turned into Python strings at a time."""
_MANIFEST = "manifest.json"
_WAIT = 1.0
"""Seconds between two signs of life while another process compiles."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What `find` must know beyond the files."""

    names: int
    longest: int
    """Characters of the longest normalised name."""
    source: str
    """SHA-256 of the file that was compiled."""


def cache_folder() -> Path:
    """Where compiled tables lie unless told otherwise; XDG_CACHE_HOME moves it."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "luke-batch" / "aliases"


def compiled_files(path: str, cache: Path, version: int) -> tuple[Path, Compiled]:
    """The folder below `cache` with the files of the table at `path` as our code of `version` and the libraries under
    it compile it; made where it is not there, or damaged.

    Raises what `read_aliases` and `compile_aliases` do, and OSError where the cache cannot be written.
    """
    libraries = f"{unicodedata.unidata_version}\n{importlib.metadata.version('marisa-trie')}"
    name = hashlib.sha256(f"{version}\n{libraries}\n{_identity(path)}".encode()).hexdigest()[:32]
    folder = cache / name
    found = _checked(folder)
    if found is None:
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            found = _checked(folder) or _made(folder, partial(_compile, path))
    return folder, found


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
            meters.beat()
    try:
        yield
    finally:
        lock.release()


def aliases_hash(path: str) -> str:
    """SHA-256 of the bytes of an alias table, for the fingerprint: 64 hexadecimal digits.

    `path` as for `read_aliases`. Raises InputError and MissingDependencyError as it does.
    """
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _identity(path: str) -> str:
    """A text that changes whenever the file does: its hash, or, of a URL, what the store says of its version
    (ETag or fsspec's checksum), so that a table that is compiled already is not downloaded.
    """
    if "://" not in path:
        return aliases_hash(path)
    with readable(_called(path), path):
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

    with _opened(path) as file:
        content_hash = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        parquet = pq.ParquetFile(file)
        contract = load_contract("aliases")
        found = parquet.schema_arrow
        missing = [name for name in contract.types if name not in found.names and name != _OPTIONAL]
        if missing:
            raise ConfigError(
                f"{_called(path)}: no column {', '.join(missing)} (there are {', '.join(found.names)}); "
                "`luke-batch aliases build` writes such a table"
            )
        table = parquet.read(columns=[name for name in contract.types if name in found.names])
        table.validate(full=True)  # else text that is no UTF-8 would be found much later
    if not table.num_rows:
        raise InputError(f"{_called(path)} has no row; `luke-batch aliases build` writes such a table")
    if _OPTIONAL not in table.column_names:
        table = table.append_column(_OPTIONAL, pa.nulls(table.num_rows, pa.string()))
    columns = {name: _converted(table[name], name, contract.field(name).type, path) for name in contract.types}
    _check_values(columns, path)
    return pa.table(columns), content_hash


def _converted(column: pa.ChunkedArray, name: str, wanted: pa.DataType, path: str) -> pa.ChunkedArray:
    """`column` as int64 or large_string."""
    where = f"{_called(path)}: column {name!r}"
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
                    f"{_called(path)}: column {name!r} is {what} in {len(rows)} rows, row {rows[0]} first;"
                    " mend or remove them"
                )


def _opened(path: str) -> AbstractContextManager[Any]:
    return opened(_called(path), str(EMBEDDED_FILE) if path == EMBEDDED else path)


def _called(path: str) -> str:
    return f"alias table {path}"


def _compile(path: str, folder: Path) -> Compiled:
    table, content_hash = read_aliases(path)
    try:
        return compile_aliases(table, content_hash, folder)
    except InputError as error:
        raise InputError(f"{_called(path)}: {error}") from error
    finally:
        # The process that compiles goes on to annotate for hours.
        del table
        pa.default_memory_pool().release_unused()
        return_freed_memory()


def compile_aliases(table: pa.Table, content_hash: str, folder: Path) -> Compiled:
    """Write the files of a table, as from `read_aliases`, into `folder`.

    Rows whose names are one when normalised are added up; a title with several Wikidata ids keeps the
    smallest. Raises InputError for a name of white space alone, OSError where `folder` cannot be written.
    """
    written = table["name"].combine_chunks().dictionary_encode()
    normal = _mapped(written.dictionary, normalise).dictionary_encode()
    names = normal.dictionary
    blank = names.index("").as_py()
    if blank >= 0:
        name = written.dictionary[normal.indices.index(blank).as_py()].as_py()
        raise InputError(f"the name {name!r} is white space alone; remove its rows")
    ids = _trie(names, folder / "names.marisa")
    name_of = ids[normal.indices.to_numpy()[written.indices.to_numpy()]]
    title_of = _write_titles(table, folder / "titles.arrow")
    _write_entries(name_of, title_of, table["count"].to_numpy(), len(names), folder)
    folded = _mapped(names, fold).dictionary_encode()
    folded_of = _trie(folded.dictionary, folder / "folded.marisa")[folded.indices.to_numpy()]
    np.save(folder / "variants.npy", _firsts(folded_of, len(folded.dictionary)))
    np.save(folder / "variant.npy", ids[np.lexsort((ids, folded_of))].astype(np.int32))
    longest = int(pc.call_function("utf8_length", [names]).to_numpy().max())
    return Compiled(len(names), longest, content_hash)


def _write_titles(table: pa.Table, path: Path) -> Longs:
    """Write the titles; the place among them of the title of each row."""
    found = table.select(["title", "qid"]).group_by("title").aggregate([("qid", "min")]).sort_by("title")
    batch = found.rename_columns(["title", "qid"]).combine_chunks().to_batches()[0]
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    options = pc.SetLookupOptions(batch["title"])
    return cast(Longs, pc.call_function("index_in", [table["title"]], options).to_numpy().astype(np.int64))


def _write_entries(names: Longs, titles: Longs, counts: Longs, number: int, folder: Path) -> None:
    pairs = pa.table({"name": names, "title": titles, "count": counts})
    pairs = pairs.group_by(["name", "title"]).aggregate([("count", "sum")])
    name, title, count = (pairs[column].to_numpy() for column in ("name", "title", "count_sum"))
    order = np.lexsort((title, -count, name))
    np.save(folder / "first.npy", _firsts(name, number))
    np.save(folder / "title.npy", title[order].astype(np.int32))
    np.save(folder / "count.npy", count[order])


def _trie(keys: pa.Array, path: Path) -> Longs:
    """Write a trie of distinct `keys`; the id of each."""
    trie = marisa_trie.Trie(chain.from_iterable(_parts(keys)))
    trie.save(str(path))
    return np.fromiter(map(trie.key_id, chain.from_iterable(_parts(keys))), np.int64, len(keys))


def _firsts(groups: Longs, number: int) -> Longs:
    """Where each of `number` groups begins when items are sorted by group: (number + 1,)."""
    return np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=number))]).astype(np.int64)


def _mapped(values: pa.Array, form: Callable[[str], str]) -> pa.Array:
    """`values` in another form, as large_string."""
    parts = [pa.array([form(value) for value in part], pa.large_string()) for part in _parts(values)]
    return pa.concat_arrays(parts)


def _parts(values: pa.Array) -> Iterator[list[str]]:
    """`values` as Python strings, some at a time."""
    for start in range(0, len(values), _ROWS):
        meters.beat()
        yield cast("list[str]", values.slice(start, _ROWS).to_pylist())
