"""The gazetteer: all known names, and nothing but names, at word boundaries."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.base.errors import ConfigError, InputError
from luke_batch.text.names.gazetteer import Case, Gazetteer, load_gazetteer
from luke_batch.text.words import words
from tests.raw_texts import any_text

CASES: list[Case] = ["exact", "fold", "smart"]

cased = st.text(alphabet="aAbBsSßẞİiIı\u0307ﬁfi .'😀漢", max_size=24)
"""Texts of letters whose folding is longer than they are."""


def found(gazetteer: Gazetteer, text: str) -> list[str]:
    """The matches as text."""
    return [text[start:end] for start, end in gazetteer.find(text, words(text, None))]


def naive(names: list[str], case: Case, text: str) -> list[list[int]]:
    """What `find` must give, by trying every pair of word boundaries with every name."""
    bounds = words(text, None).tolist()
    spans = [[start, end] for start, _ in bounds for _, end in bounds if start < end]

    def same(name: str, piece: str) -> bool:
        strict = case == "exact" or (case == "smart" and (name.isupper() or len(name) <= 3))
        return name == piece if strict else name.casefold() == piece.casefold()

    trimmed = [name.strip() for name in names]
    return sorted(span for span in spans if any(name and same(name, text[span[0] : span[1]]) for name in trimmed))


@given(st.data(), cased | any_text, st.sampled_from(CASES))
def test_it_equals_a_naive_search(data: st.DataObject, text: str, case: Case) -> None:
    """All matches, overlaps included, ascending and once, whatever folding does to offsets."""
    bounds = st.integers(0, len(text))
    pieces = st.lists(st.tuples(bounds, bounds).map(lambda cut: text[min(cut) : max(cut)]), max_size=4)
    names = data.draw(pieces) + data.draw(st.lists(cased, max_size=3))
    names += [name.swapcase() for name in names]
    spans = Gazetteer(names, case).find(text, words(text, None))
    assert spans.dtype == np.int32
    assert spans.shape == (len(spans), 2)
    assert spans.tolist() == naive(names, case, text)


def test_folding_keeps_offsets() -> None:
    """A letter that folds to two does not shift what stands behind it, and half of it is no match."""
    gazetteer = Gazetteer(["STRASSE", "berlin"], "fold")
    assert found(gazetteer, "Große Straße, ẞ İ BERLIN") == ["Straße", "BERLIN"]
    assert found(Gazetteer(["s"], "fold"), "ß s") == ["s"]


def test_smart_case() -> None:
    """Short names and names in capitals keep their case, other names are found in any."""
    gazetteer = Gazetteer(["US", "It", "WHO", "Apple Inc.", "NASA Ames"], "smart")
    text = "who told us it? It: WHO, US, apple inc. and NASA AMES"
    assert found(gazetteer, text) == ["It", "WHO", "US", "apple inc.", "NASA AMES"]


def test_matches_overlap_and_end_at_words() -> None:
    """A name inside a name is found too; a name inside a word is not."""
    gazetteer = Gazetteer(["New York", "York", "New York City", "Yor"], "exact")
    assert found(gazetteer, "New York City, Yorkshire") == ["New York", "New York City", "York"]


def test_names_are_compared_as_written() -> None:
    """Unicode forms and inner white space stay; outer white space and empty names do not count."""
    gazetteer = Gazetteer([" Beyonc\u00e9 ", "", "  "], "exact")
    assert len(gazetteer) == 1
    assert found(gazetteer, "Beyonc\u00e9 Beyonce\u0301") == ["Beyonc\u00e9"]
    assert found(Gazetteer(["New  York"], "fold"), "New York New  York") == ["New  York"]
    assert found(Gazetteer([]), "anything") == []


def test_it_pickles() -> None:
    """With its names and its policy."""
    assert found(pickle.loads(pickle.dumps(Gazetteer(["Anna", "Bo"], "fold"))), "ANNA") == ["ANNA"]


def test_it_loads_from_files(tmp_path: Path) -> None:
    """Parquet, CSV and compressed CSV give the same names; nulls are skipped, numbers in CSV stay text."""
    table = pa.table({"name": ["Anna", None, "007"], "n": [1, 2, 3]})
    pyarrow.parquet.write_table(table, tmp_path / "names.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "names.csv")
    (tmp_path / "names.csv.gz").write_bytes(gzip.compress((tmp_path / "names.csv").read_bytes()))
    loaded = [load_gazetteer(str(tmp_path / name)) for name in ("names.parquet", "names.csv", "names.csv.gz")]
    for gazetteer in loaded:
        assert len(gazetteer) == 2
        assert found(gazetteer, "anna is 007") == ["anna", "007"]


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    """Missing, broken and unknown files, missing columns and columns of no text: errors that name them."""
    table = pa.table({"title": ["Anna"], "parts": [[1]]})
    pyarrow.parquet.write_table(table, tmp_path / "names.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"missing\.csv"):
        load_gazetteer(str(tmp_path / "missing.csv"))
    with pytest.raises(InputError, match=r"broken\.parquet"):
        load_gazetteer(str(tmp_path / "broken.parquet"))
    cut = gzip.compress(b"name\nAnna\n")[:-9]
    (tmp_path / "cut.csv.gz").write_bytes(cut)
    with pytest.raises(InputError, match=r"cut\.csv\.gz: cannot be read"):
        load_gazetteer(str(tmp_path / "cut.csv.gz"))
    with pytest.raises(ConfigError, match=r"\.xlsx"):
        load_gazetteer(str(tmp_path / "names.xlsx"))
    with pytest.raises(ConfigError, match=r"'name'.*title, parts"):
        load_gazetteer(str(tmp_path / "names.parquet"))
    with pytest.raises(ConfigError, match="parts"):
        load_gazetteer(str(tmp_path / "names.parquet"), "parts")
