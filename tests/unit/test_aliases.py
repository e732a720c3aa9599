"""The alias table: names in texts, longest first, and the titles that a name may mean."""

import json
import multiprocessing
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.base.errors import ConfigError, InputError, MissingDependencyError
from luke_batch.text.names import alias_files, aliases
from luke_batch.text.names.alias_files import FILES, Compiled, compile_aliases, read_aliases
from luke_batch.text.names.aliases import AliasTable, Candidates, aliases_hash, load_aliases
from luke_batch.text.names.name_forms import fold, normalise
from luke_batch.text.words import words
from tests.raw_texts import any_text

Row = tuple[str, str, int, str | None]

ROWS: list[Row] = [
    ("New York", "New York (state)", 3, "Q1384"),
    ("new york", "New York City", 2, "Q60"),
    ("New York", "New York City", 5, "Q60"),
    ("New  York City", "New York City", 1, None),
    ("York", "York", 2, None),
    ("Beyoncé", "Beyoncé", 4, "Q36153"),
    ("東京", "ja:東京", 1, None),
    ("Rare", "Rare bird", 0, None),
]

cased = st.text(alphabet="aAbB ß.'´é\u0301ﬁf½漢😀\u00a0\n", max_size=20)


def write(rows: list[Row], path: Path) -> str:
    """A table of `rows` at `path`."""
    columns = zip(*rows, strict=True)
    names = {"name": pa.string(), "title": pa.string(), "count": pa.int64(), "qid": pa.string()}
    arrays = {name: pa.array(column, kind) for (name, kind), column in zip(names.items(), columns, strict=True)}
    pq.write_table(pa.table(arrays), path)
    return str(path)


def temporary_table(rows: list[Row], folder: str) -> AliasTable:
    """A table of `rows` compiled below `folder`."""
    return load_aliases(write(rows, Path(folder) / "aliases.parquet"), Path(folder) / "cache")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The table of ROWS."""
    return write(ROWS, tmp_path_factory.mktemp("aliases") / "aliases.parquet")


@pytest.fixture(scope="module")
def table(path: str) -> AliasTable:
    """ROWS, compiled."""
    return load_aliases(path, Path(path).parent / "cache")


def found(table: AliasTable, text: str) -> list[str]:
    """The spans as text."""
    return [text[start:end] for start, end in table.find(text, words(text, None)).tolist()]


def naive(names: list[str], text: str) -> list[list[int]]:
    """What `find` must give: at each word the longest piece that is a name when normalised."""
    bounds, forms = words(text, None).tolist(), {normalise(name) for name in names}
    spans: list[list[int]] = []
    for start, _ in bounds:
        if spans and start < spans[-1][1]:
            continue
        ends = [end for _, end in bounds if end > start and normalise(text[start:end]) in forms]
        if ends:
            spans.append([start, max(ends)])
    return spans


@given(st.data(), cased | any_text)
def test_find_equals_a_naive_search(data: st.DataObject, text: str) -> None:
    """Longest match, left to right, whatever normalisation does to offsets; spans lie in the text."""
    bounds = st.integers(0, len(text))
    names = data.draw(st.lists(st.tuples(bounds, bounds).map(lambda cut: text[min(cut) : max(cut)]), max_size=5))
    pieces = words(text, None).tolist()
    if pieces:  # names that can be found, some of them one inside another
        word = st.integers(0, len(pieces) - 1)
        runs = st.tuples(word, word).map(lambda run: text[pieces[min(run)][0] : pieces[max(run)][1]])
        names += data.draw(st.lists(runs, max_size=4))
    names = [name for name in [*names, "a", "ﬁ"] if normalise(name)]
    with tempfile.TemporaryDirectory() as folder:
        spans = temporary_table([(name, "T", 1, None) for name in names], folder).find(text, words(text, None))
    assert spans.dtype == np.int32
    assert spans.shape == (len(spans), 2)
    assert spans.tolist() == naive(names, text)


@given(
    st.lists(st.tuples(st.sampled_from(["US", "us", "Us", "u s", "ß", "SS", "A\u0301"]), st.sampled_from("STUV"))),
    st.sampled_from(["US", "us", "uS", " us", "ss", "ẞ", "á", "nobody"]),
    st.integers(1, 3),
)
def test_candidates_equal_a_naive_count(links: list[tuple[str, str]], name: str, limit: int) -> None:
    """Prior: links of the name to the title by all links of the name; folded only where it is unknown."""
    links = [("x", "X"), *links]
    exact = Counter(title for other, title in links if normalise(other) == normalise(name))
    counts = exact or Counter(title for other, title in links if fold(other) == fold(name))
    best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
    with tempfile.TemporaryDirectory() as folder:
        candidates = temporary_table([(*link, 1, None) for link in links], folder).candidates(name, limit)
    assert candidates.titles == [title for title, _ in best]
    assert candidates.priors.dtype == np.float32
    np.testing.assert_allclose(candidates.priors, [count / counts.total() for _, count in best], rtol=1e-6)


def test_the_longest_name_wins_and_case_counts(table: AliasTable) -> None:
    """Names inside names are not found, nor names in another case; white space and accents are free."""
    text = "NEW YORK, New\n York  City, York's Beyonce\u0301 in 東京, Yorkshire, new york"
    assert found(table, text) == ["New\n York  City", "York", "Beyonce\u0301", "東京", "new york"]


@pytest.mark.parametrize("length", [63, 64, 65, 1000])
def test_long_names(tmp_path: Path, length: int) -> None:
    """However long a name is, it is found whole, and so is what stands in its place but for the end."""
    long = "Ab " * (length // 3) + "x" * (length % 3 or 3)
    long = long[-length:].strip().ljust(length, "y")
    table = temporary_table([(long, "Long", 1, None), ("Ab", "Short", 1, None)], str(tmp_path))
    assert found(table, f"The {long}.") == [long]
    assert found(table, long[:-1] + "z") == ["Ab"] * long.count("Ab ")


def test_candidates(table: AliasTable) -> None:
    """Rows of one normalised name are one name; an unknown name is looked for without case."""
    assert len(table) == 7
    exact = table.candidates("New York", 9)
    assert (exact.titles, exact.qids) == (["New York City", "New York (state)"], ["Q60", "Q1384"])
    np.testing.assert_allclose(exact.priors, [5 / 8, 3 / 8])
    folded = table.candidates("NEW YORK", 1)
    assert folded.titles == ["New York City"]
    np.testing.assert_allclose(folded.priors, [7 / 10])
    assert table.candidates("New York City", 1).qids == ["Q60"], "an id belongs to the title"
    assert table.candidates("Rare", 5).priors.tolist() == [0.0]


def test_unknown_names_have_no_candidates(table: AliasTable) -> None:
    """Empty lists of the right types."""
    for name in ("nobody", "", " ", "\ud800", "\0"):
        candidates = table.candidates(name, 5)
        assert candidates.titles == candidates.qids == []
        assert (candidates.priors.dtype, candidates.priors.shape) == (np.float32, (0,))


@pytest.mark.parametrize("text", ["", " ", "\ud800", "York\ud800", "\0York", "\n´"])
def test_any_text_is_searched(table: AliasTable, text: str) -> None:
    """Surrogates, controls and emptiness are no errors."""
    assert table.find(text, words(text, None)).shape[1] == 2


def test_a_table_pickles(table: AliasTable) -> None:
    """It travels as its path, and is mapped again where it arrives."""
    assert pickle.loads(pickle.dumps(table)).candidates("York", 1).titles == ["York"]


def test_it_is_compiled_once(path: str, table: AliasTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second load reads the folder; another content is another folder."""
    assert len(table)
    monkeypatch.setattr(alias_files, "read_aliases", None)
    assert load_aliases(path, Path(path).parent / "cache").candidates("York", 1).titles == ["York"]
    with pytest.raises(TypeError):
        load_aliases(write(ROWS[:3], Path(path).with_name("other.parquet")), Path(path).parent / "cache")


def test_the_default_cache_follows_the_environment(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CACHE_HOME moves it, as it moves that of the checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_CACHE_HOME", folder)
        load_aliases(path)
        assert any((Path(folder) / "luke-batch" / "aliases").iterdir())


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_a_damaged_cache_is_made_again(path: str, table: AliasTable, tmp_path: Path, name: str, damage: str) -> None:
    """Whatever became of a file: it is never mapped, and the table works."""
    assert len(table)
    shutil.copytree(Path(path).parent / "cache", tmp_path / "cache")
    file = next((tmp_path / "cache").glob(f"*/{name}"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.unlink()
    if damage != "missing":
        file.write_bytes(content if damage == "changed" else content[: len(content) // 2])
    mended = load_aliases(path, tmp_path / "cache")
    assert found(mended, "New York, York") == ["New York", "York"]
    assert [f.name for f in (tmp_path / "cache").iterdir() if f.is_dir()] == [file.parent.name]
    assert sorted(f.name for f in file.parent.iterdir()) == sorted([*FILES, "manifest.json"])


def test_a_manifest_of_another_kind_is_damage(path: str, table: AliasTable, tmp_path: Path) -> None:
    """Valid JSON that says nothing of ours."""
    assert len(table)
    for content in ([], {"files": {}}, {"files": [], "names": 1}):
        shutil.copytree(Path(path).parent / "cache", tmp_path / "cache")
        next((tmp_path / "cache").glob("*/manifest.json")).write_text(json.dumps(content))
        assert len(load_aliases(path, tmp_path / "cache")) == 7
        shutil.rmtree(tmp_path / "cache")


def _load(path: str, cache: Path, barrier: Any, answers: Any) -> None:
    barrier.wait()
    answers.put(load_aliases(path, cache).candidates("York", 1).titles)


def test_processes_may_compile_at_once(path: str, tmp_path: Path) -> None:
    """All of them get the table, and one folder is left."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_load, args=(path, tmp_path, barrier, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [answers.get(timeout=60) for _ in processes] == [["York"]] * 3
    for process in processes:
        process.join()
    assert len([entry for entry in tmp_path.iterdir() if entry.is_dir()]) == 1


def test_the_first_of_two_processes_stays(
    path: str, table: AliasTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no lock holds, a folder that another process has finished meanwhile is taken as it is."""
    assert len(table)
    ready, folder = next((Path(path).parent / "cache").glob("*/")), tmp_path / "table"

    def compile(empty: Path) -> Compiled:
        shutil.copytree(ready, folder)
        return compile_aliases(*read_aliases(path), empty)

    monkeypatch.setattr(Path, "exists", lambda _: False)  # it came after this was asked
    assert alias_files._made(folder, compile).names == 7
    assert [entry.name for entry in tmp_path.iterdir()] == ["table"]


_MEMORY = """
import pathlib, re, sys
from luke_batch.text.names.aliases import load_aliases
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
import marisa_trie, pyarrow.ipc
before = anonymous()
table = load_aliases(sys.argv[1], pathlib.Path(sys.argv[2]))
for number in range(0, 100_000, 97):
    assert table.candidates(f"name {number:x}", 3).titles == [f"title {number:x}"]
mapped = pathlib.Path("/proc/self/maps").read_text()
print(anonymous() - before, mapped.count("names.marisa"), mapped.count("title.npy"))
"""


def test_a_second_process_shares_the_table(tmp_path: Path) -> None:
    """Files are mapped: a table of 100,000 names and 12 MB costs a process 2 MB of its own at most."""
    numbers = [f"{number:x}" for number in range(100_000)]
    rows: list[Row] = [(f"name {n}", f"title {n}", 1, f"Q{n}") for n in numbers]
    path, cache = write(rows, tmp_path / "aliases.parquet"), tmp_path / "cache"
    load_aliases(path, cache)
    size = sum(file.stat().st_size for file in cache.glob("*/*"))
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, path, cache], capture_output=True, text=True, check=True, timeout=60
    )
    kilobytes, tries, arrays = map(int, done.stdout.split())
    assert size > 6e6
    assert kilobytes < 2048, f"{kilobytes} kB of {size} bytes"
    assert tries
    assert arrays


_BAD: list[tuple[dict[str, list[Any]], type[Exception], str]] = [
    ({"name": ["a"], "title": ["A"]}, ConfigError, "no column count"),
    ({"name": [1], "title": ["A"], "count": [1]}, ConfigError, "column 'name' is int64, not string"),
    ({"name": ["a"], "title": ["A"], "count": [1.5]}, ConfigError, "column 'count' is double, not int64"),
    ({"name": ["a"], "title": ["A"], "count": [1], "qid": [7]}, ConfigError, "column 'qid' is int64"),
    (
        {"name": ["a", None], "title": ["A"] * 2, "count": [1, 1]},
        InputError,
        "'name' is null in 1 rows, row 1",
    ),
    ({"name": ["a"], "title": [""], "count": [1]}, InputError, "'title' is empty"),
    ({"name": ["a"], "title": ["A"], "count": [-1]}, InputError, "'count' is negative"),
    ({"name": ["a", ""], "title": ["A"] * 2, "count": [1, 1]}, InputError, "'name' is empty in 1 rows"),
    ({"name": ["a", " \n"], "title": ["A"] * 2, "count": [1, 1]}, InputError, "white space alone"),
    ({"name": [], "title": [], "count": []}, InputError, "has no row"),
]


@pytest.mark.parametrize(("columns", "kind", "message"), _BAD, ids=[bad[2] for bad in _BAD])
def test_what_is_refused(tmp_path: Path, columns: dict[str, list[Any]], kind: type[Exception], message: str) -> None:
    """One line that names the table, and nothing is left in the cache."""
    pq.write_table(pa.table(columns), tmp_path / "bad.parquet")
    with pytest.raises(kind, match=re.escape(message)) as error:
        load_aliases(str(tmp_path / "bad.parquet"), tmp_path / "cache")
    assert "bad.parquet" in str(error.value)
    assert "\n" not in str(error.value)
    assert not [entry for entry in (tmp_path / "cache").glob("*") if entry.is_dir()]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, no Parquet, text that is no UTF-8, a URL of an unknown kind."""
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    invalid = pa.array([b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"name": invalid, "title": ["A"], "count": [1]}), tmp_path / "latin.parquet")
    for name in ("missing", "bad", "latin"):
        with pytest.raises(InputError, match=f"{name}.parquet: cannot be read"):
            load_aliases(str(tmp_path / f"{name}.parquet"), tmp_path)
    with pytest.raises((InputError, MissingDependencyError)):
        load_aliases("nowhere://a.parquet", tmp_path)


def test_a_cache_that_cannot_be_written(path: str, tmp_path: Path) -> None:
    """The message says how to move it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="XDG_CACHE_HOME"):
        load_aliases(path, tmp_path / "file")


def test_columns_of_other_writers(tmp_path: Path) -> None:
    """Dictionaries, large strings, small integers, a qid column without a value."""
    columns = {
        "title": pa.array(["A", "B"], pa.large_string()),
        "name": pa.array(["a", "a"]).dictionary_encode(),
        "count": pa.array([1, 3], pa.uint8()),
        "qid": pa.nulls(2),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    candidates = load_aliases(str(tmp_path / "a.parquet"), tmp_path / "cache").candidates("a", 5)
    assert candidates.titles == ["B", "A"]
    assert candidates.qids == [None, None]


def test_a_url_is_downloaded_once(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's word for its version is enough for a table that is compiled already."""
    import fsspec

    filesystem: Any = fsspec.filesystem("memory")
    filesystem.pipe_file("/aliases/a.parquet", Path(path).read_bytes())
    url = "memory://aliases/a.parquet"
    assert len(load_aliases(url, tmp_path)) == 7
    assert aliases_hash(url) == aliases_hash(path)
    with monkeypatch.context() as patched:
        patched.setattr(alias_files, "read_aliases", None)
        assert len(load_aliases(url, tmp_path, aliases_hash(path))) == 7
        with pytest.raises(InputError, match=r"alias table memory://\S+: .* not 0123 as planned"):
            load_aliases(url, tmp_path, "0123")
    other = write(ROWS[:3], tmp_path / "other.parquet")
    filesystem.pipe_file("/aliases/a.parquet", Path(other).read_bytes())
    assert len(load_aliases(url, tmp_path)) == 2


def test_the_embedded_table(tmp_path: Path) -> None:
    """Every title of the embedded model has a name, and the names of the readme's example are there."""
    model = Path(aliases.__file__).parents[2] / "embedded" / "model" / "entity_vocab.json"
    titles = [title for title in json.loads(model.read_text(encoding="utf-8")) if not title.startswith("[")]
    table = load_aliases("embedded", tmp_path)
    text = "Beyoncé lives in Los Angeles."
    assert found(table, text) == ["Beyoncé", "Los Angeles"]
    plain = [title for title in titles if "(" not in title]
    assert all(title in table.candidates(title, 100).titles for title in plain)
    assert isinstance(table.candidates("Beyoncé", 1), Candidates)
