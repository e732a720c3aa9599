"""Spans of known names: Aho-Corasick automata over all of them, whatever their number.

Names and text are compared as they are written: no Unicode normalisation, white space literally. Linear in
the text and the number of matches.
"""

import gzip
import hashlib
from collections.abc import Iterable
from io import BytesIO
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
from ahocorasick_rs import AhoCorasick
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import ConfigError
from luke_batch.base.section import Section
from luke_batch.text.names.content import check_content, opened
from luke_batch.text.proposer import Proposer
from luke_batch.text.words import without_surrogates

VERSION = 1
"""Raised by hand whenever the same names would match differently; part of the job's fingerprint."""

Case = Literal["exact", "fold", "smart"]

_SHORT = 3
"""Under `smart`, names of at most this many characters keep their case: "It" and "us" are words as well."""


class GazetteerConfig(Section):
    """The names table of the `gazetteer` proposer."""

    path: str
    """Parquet or CSV file with one name a row, local or `s3://`."""
    column: str = "name"
    """Column that holds the names."""
    case: Case = "smart"
    """exact; fold: case is ignored; smart: ignored except for names of at most three characters or all
    upper case.
    """
    content_hash: str | None = None
    """SHA-256 that the file must have, as 64 hexadecimal digits; null: any. A run tells it to its workers, so
    that all of them read what was planned.
    """


class GazetteerProposer(Proposer):
    """`spans: gazetteer`."""

    name = "gazetteer"
    section = "gazetteer"
    settings = GazetteerConfig
    version = VERSION

    def __init__(self, settings: GazetteerConfig) -> None:
        self._names = load_gazetteer(settings.path, settings.column, settings.case, settings.content_hash)

    def find(self, text: str, words: IntArray) -> IntArray:
        """See Proposer."""
        return self._names.find(text, words)


class Gazetteer:
    """Finds names in texts. Can be pickled: only the names travel.

    `case`: "exact" compares as written; "fold" without regard to case (Unicode folding: "STRASSE" finds
    "Straße"); "smart" folds, save for names in capitals and names of up to 3 characters, which must match
    exactly. White space around a name does not count, and empty names are left out.
    """

    def __init__(self, names: Iterable[str], case: Case = "smart") -> None:
        self._names = sorted({without_surrogates(name.strip()) for name in names} - {""})
        self._case: Case = case
        exact = [name for name in self._names if case == "exact" or (case == "smart" and _keeps_case(name))]
        folded = sorted({name.casefold() for name in set(self._names).difference(exact)})
        self._exact = AhoCorasick(exact) if exact else None
        self._folded = AhoCorasick(folded) if folded else None

    def __len__(self) -> int:
        return len(self._names)

    def __reduce__(self) -> tuple[type["Gazetteer"], tuple[list[str], Case]]:
        return Gazetteer, (self._names, self._case)

    def find(self, text: str, words: IntArray) -> IntArray:
        """Every name in `text` that begins where a word begins and ends where one ends, overlapping ones included.

        (m, 2) int32 of [start, end) code points, ascending by (start, end), no span twice. `words` is (n, 2).
        """
        text = without_surrogates(text)
        found: list[IntArray] = []
        if self._exact:
            found.append(_matches(self._exact, text))
        if self._folded:
            folded = text.casefold()
            matches = _matches(self._folded, folded)
            # folding never drops a character: of equal length, it has lengthened none
            found.append(matches if len(folded) == len(text) else _unfolded(matches, text))
        spans = np.concatenate(found) if found else np.zeros((0, 2), np.int32)
        bounded = np.isin(spans[:, 0], words[:, 0]) & np.isin(spans[:, 1], words[:, 1])
        return np.unique(spans[bounded], axis=0)


def load_gazetteer(path: str, column: str = "name", case: Case = "smart", content_hash: str | None = None) -> Gazetteer:
    """The names in `column` of a Parquet or CSV file (.parquet, .csv, .csv.gz); nulls are skipped.

    `path` may be a URL that fsspec knows, such as s3://. Raises ConfigError for another kind of file or a column that
    is missing or no text, InputError for a file that cannot be read or whose bytes do not have the SHA-256
    `content_hash`, MissingDependencyError where the URL needs a library that is not installed.
    """
    what, name = f"gazetteer {path}", path.lower()
    if not name.endswith((".parquet", ".csv", ".csv.gz")):
        raise ConfigError(f"{what}: its name tells no known kind of file; give a .parquet, .csv or .csv.gz file")
    with opened(what, path) as file:
        content = file.read()
        check_content(what, hashlib.sha256(content).hexdigest(), content_hash)
        table = _read(BytesIO(gzip.decompress(content) if name.endswith(".gz") else content), name.endswith(".parquet"))
    if column not in table.column_names:
        columns = ", ".join(table.column_names)
        raise ConfigError(f"{what}: no column {column!r}; name the one that holds the names ({columns})")
    try:
        names = table.column(column).cast(pa.string()).to_pylist()
    except pa.ArrowException as error:
        kind = table.schema.field(column).type
        raise ConfigError(f"{what}: column {column!r} is {kind}, not text; name another one") from error
    return Gazetteer((name for name in names if name is not None), case)


def _keeps_case(name: str) -> bool:
    return name.isupper() or len(name) <= _SHORT


def _matches(automaton: AhoCorasick, text: str) -> IntArray:
    """All matches in `text`, overlapping ones included: (m, 2) int32."""
    matches = automaton.find_matches_as_indexes(text, overlapping=True)
    return np.array(matches, np.int32).reshape(-1, 3)[:, 1:]


def _unfolded(matches: IntArray, text: str) -> IntArray:
    """Matches in the folded text as spans of `text`, without those that cover half of a character."""
    lengths = np.fromiter((len(character.casefold()) for character in text), np.int32, len(text))
    starts: NDArray[np.int32] = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    spans = np.searchsorted(starts, matches).astype(np.int32)
    return spans[(starts[spans] == matches).all(axis=1)]


def _read(file: BinaryIO, parquet: bool) -> Any:
    """The whole file as an Arrow table; every column of a CSV file as text ("007", "NA")."""
    if parquet:
        import pyarrow.parquet

        return pyarrow.parquet.read_table(file)
    import pyarrow.csv

    header = pyarrow.csv.open_csv(file).schema.names
    file.seek(0)
    options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False)
    return pyarrow.csv.read_csv(file, convert_options=options)
