"""An alias table as files that are mapped into memory: two static tries of names, and arrays of numbers.

names.marisa    normalised names; a name's number is its key's id in the trie
folded.marisa   the same names without case
first.npy       (names + 1,) int64: entries of name i are [first[i], first[i + 1])
title.npy       (entries,) int32 index into titles, by falling count, then title
count.npy       (entries,) int64 links of the name to the title
variants.npy    (folded + 1,) int64: names of folded name i are variant[variants[i]:variants[i + 1]]
variant.npy     (names,) int32 number of a name
titles.arrow    title and qid, sorted by title: one batch of an Arrow IPC file
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import cast

import marisa_trie
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.base import pulse
from luke_batch.base.allocator import return_freed_memory
from luke_batch.base.errors import InputError
from luke_batch.text.names.alias_source import read_aliases
from luke_batch.text.names.name_forms import fold, normalise

FILES = (
    *("names.marisa", "folded.marisa", "titles.arrow"),
    *("first.npy", "title.npy", "count.npy", "variants.npy", "variant.npy"),
)

_ROWS = 1 << 16
"""Names that are turned into Python strings at a time."""

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What `find` must know beyond the files."""

    names: int
    longest: int
    """Characters of the longest normalised name."""
    source: str
    """SHA-256 of the file that was compiled."""


def compile_file(path: str, folder: Path) -> Compiled:
    """Write the files of the table at `path` into `folder`; raises as `read_aliases` and `compile_aliases` do."""
    table, content_hash = read_aliases(path)
    try:
        return compile_aliases(table, content_hash, folder)
    except InputError as error:
        raise InputError(f"alias table {path}: {error}") from error
    finally:
        del table
        _give_back_memory()


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
        pulse.beat()
        yield cast("list[str]", values.slice(start, _ROWS).to_pylist())


def _give_back_memory() -> None:
    """Return freed memory to the system: the process that compiles goes on to annotate for hours."""
    pa.default_memory_pool().release_unused()
    return_freed_memory()
