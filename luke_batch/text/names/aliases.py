"""The alias table of entity linking: which names a text may hold, and which titles a name may mean.

The table is compiled once on a machine into files that its processes map and share: tables of millions of
names cost each of them little memory of its own. Names are compared in the form of `name_forms`: Unicode NFKC
and single spaces; case counts, save where `candidates` is asked for a name that is not there as written.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import marisa_trie
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.base.errors import InputError
from luke_batch.base.section import EMBEDDED, Section
from luke_batch.text.names.alias_compile import Compiled, compile_file
from luke_batch.text.names.alias_files import cache_folder, compiled_folder, folder_name
from luke_batch.text.names.alias_source import aliases_hash, identity
from luke_batch.text.names.name_forms import NormalisedText, fold, normalise
from luke_batch.text.proposer import Proposer
from luke_batch.text.sentences.content import check_content

__all__ = ["VERSION", "AliasTable", "Candidates", "aliases_hash", "load_aliases"]

VERSION = 1
"""Raised by hand whenever the same table would give other spans or candidates, or its compiled files change;
part of the job's fingerprint, as the hash of the table and Python's Unicode data are.
"""

_LOOK_AHEAD = 64
"""Characters of a text that are compared with names of any length at first."""

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The titles that a name may mean, the likeliest first; of equal ones in the order of their titles."""

    titles: list[str]
    priors: FloatArray
    """(k,) share of each title in all links with that name; below 1 in sum where the list was cut."""
    qids: list[str | None]
    """Wikidata ids."""


class AliasConfig(Section):
    """The alias table: which names stand for which titles, and how often."""

    path: str = EMBEDDED
    """Parquet file with the columns name, title, count and, where known, qid, local or `s3://`; `embedded`:
    that of the embedded model's entity vocabulary.
    """
    min_prior: float = Field(default=0, ge=0, le=1)
    """Titles that fewer of a name's links lead to (as a share) are no candidates."""
    content_hash: str | None = None
    """SHA-256 that the file must have, as of the gazetteer; null: any."""


class AliasProposer(Proposer):
    """`spans: alias`."""

    name = "alias"
    section = "aliases"
    settings = AliasConfig
    version = VERSION

    def __init__(self, settings: AliasConfig) -> None:
        self._names = load_aliases(settings.path, content_hash=settings.content_hash)

    def find(self, text: str, words: IntArray) -> IntArray:
        """See Proposer."""
        return self._names.find(text, words)


class AliasTable:
    """Finds names in texts, and the candidates of a name. Made by `load_aliases`; pickles as its path."""

    def __init__(self, folder: Path, compiled: Compiled, source: tuple[str, Path | None, str | None]) -> None:
        self._compiled = compiled
        self._source = source
        self._names = marisa_trie.Trie().mmap(str(folder / "names.marisa"))
        self._folded = marisa_trie.Trie().mmap(str(folder / "folded.marisa"))
        self._first, self._title, self._count, self._variants, self._variant = (
            cast(Longs, np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            for name in ("first", "title", "count", "variants", "variant")
        )
        titles = pa.ipc.open_file(pa.memory_map(str(folder / "titles.arrow"))).get_batch(0)
        self._titles, self._qids = titles["title"], titles["qid"]

    def __len__(self) -> int:
        """Names, as normalised."""
        return self._compiled.names

    def __reduce__(self) -> tuple[object, tuple[str, Path | None, str | None]]:
        return load_aliases, self._source

    def find(self, text: str, words: IntArray) -> IntArray:
        """The names in `text`, from left to right, of several that begin at one word the longest.

        (m, 2) int32 of [start, end) code points, ascending, not overlapping. Each begins where a word of
        `words` (n, 2), ascending, begins, and ends where one ends. White space inside a name may be any,
        line breaks too. Time grows with the text and the length of the names that begin there.
        """
        normal = NormalisedText.of(text)
        lasts = normal.last(words[:, 1])
        ends = dict(zip(lasts.tolist(), words[:, 1].tolist(), strict=True))
        spans: list[tuple[int, int]] = []
        done = 0
        for place, start in zip(normal.first(words[:, 0]).tolist(), words[:, 0].tolist(), strict=True):
            if place < done:  # inside the name before, or no place at all
                continue
            for name in reversed(self._names_at(normal.text, place)):
                last = place + len(name) - 1
                if last in ends:
                    spans.append((start, ends[last]))
                    done = last + 1
                    break
        return np.array(spans, np.int32).reshape(-1, 2)

    def candidates(self, name: str, limit: int) -> Candidates:
        """At most `limit` titles of `name`; if the table does not know it as written, those of all names that
        differ from it in case alone, added up. Empty where there are none.
        """
        known = self._names.get(normalise(name))
        if known is not None:
            titles, counts = self._entries(known)
        else:
            titles, counts = self._folded_entries(name)
        priors = (counts[:limit] / max(int(counts.sum()), 1)).astype(np.float32)
        best = titles[:limit].tolist()
        return Candidates(
            [self._titles[title].as_py() for title in best], priors, [self._qids[t].as_py() for t in best]
        )

    def _names_at(self, text: str, place: int) -> list[str]:
        """All names that `text` goes on with at `place`, the shortest first."""
        piece = text[place : place + _LOOK_AHEAD]
        # a few names of a whole paragraph must not make every step as long
        if self._compiled.longest > _LOOK_AHEAD and next(self._names.iterkeys(piece), None) is not None:
            piece = text[place : place + self._compiled.longest]
        return self._names.prefixes(piece)

    def _entries(self, name: int) -> tuple[NDArray[np.int_], Longs]:
        """Titles and counts of a name by its number: (k,) each."""
        entries = slice(int(self._first[name]), int(self._first[name + 1]))
        return self._title[entries], self._count[entries]

    def _folded_entries(self, name: str) -> tuple[NDArray[np.int_], Longs]:
        found = self._folded.get(fold(name))
        if found is None:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        variants = self._variant[int(self._variants[found]) : int(self._variants[found + 1])]
        parts = [self._entries(int(variant)) for variant in variants]
        titles, places = np.unique(np.concatenate([titles for titles, _ in parts]), return_inverse=True)
        counts = np.zeros(len(titles), np.int64)
        np.add.at(counts, places, np.concatenate([counts for _, counts in parts]))
        order = np.lexsort((titles, -counts))
        return titles[order], counts[order]


def load_aliases(path: str, cache: Path | None = None, content_hash: str | None = None) -> AliasTable:
    """The table of a Parquet file with the columns of schemas/aliases.v1.json: name, title, count, qid.

    `path` is a local file, a URL that fsspec knows, or "embedded" for the table inside the package. It is
    compiled into a folder below `cache` (`$XDG_CACHE_HOME/luke-batch/aliases` unless given) the first time
    that a machine sees this content; later only the folder is read, and checked. It also tells the hash of
    the table, so that no URL is read to compare it with `content_hash` (as from `aliases_hash`; None: any).

    Raises ConfigError for a missing column or one of another type, InputError for a file that cannot be read
    or holds what a table must not (nulls, negative counts, empty names), or a cache that cannot be written,
    or another content than that of `content_hash`.
    """
    parent = cache_folder() if cache is None else cache
    folder = parent / folder_name(identity(path), VERSION)
    try:
        compiled = compiled_folder(folder, lambda empty: compile_file(path, empty))
        check_content(f"alias table {path}", compiled.source, content_hash)
        return AliasTable(folder, compiled, (path, cache, content_hash))
    except OSError as error:
        raise InputError(
            f"alias table {path}: cannot be compiled into {parent} ({error}); make it writable, free space "
            "there, or set XDG_CACHE_HOME to another folder"
        ) from error
