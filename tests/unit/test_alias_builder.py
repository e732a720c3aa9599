"""Links counted into an alias table, and the command that does it."""

import json
import re
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.base.contracts import load_contract
from luke_batch.base.errors import InputError, OutputError, UsageError
from luke_batch.cli import run
from luke_batch.corpus.plan import make_plan
from luke_batch.corpus.storage import Storage
from luke_batch.text.names.aliases import load_aliases
from luke_batch.text.names.name_forms import normalise
from luke_batch.titles import alias_table
from luke_batch.titles.alias_table import build_aliases
from luke_batch.titles.links import TextSlices
from luke_batch.titles.redirects import Redirects, own_names, written
from tests import corpora
from tests.raw_texts import any_text

Link = tuple[int, int, str | None]


def documents(path: Path, rows: Sequence[tuple[str | None, list[Link] | None]], column: str = "links") -> str:
    """A file of documents with linked mentions."""
    kind = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("title", pa.string())]))
    links = [None if found is None else [{"start": s, "end": e, "title": t} for s, e, t in found] for _, found in rows]
    pq.write_table(pa.table({"text": [text for text, _ in rows], column: pa.array(links, kind)}), path)
    return str(path)


def parquet(path: Path, **columns: Any) -> str:
    """A file of plain columns."""
    pq.write_table(pa.table(columns), path)
    return str(path)


def rows_of(path: Path | str) -> list[tuple[str, str, int]]:
    """Name, title, count of a table in its order."""
    return [(row["name"], row["title"], row["count"]) for row in pq.read_table(path).to_pylist()]


@given(st.lists(any_text, min_size=1, max_size=4), st.data())
def test_pieces_are_slices(texts: list[str], data: st.DataObject) -> None:
    """`text[start:end]` of every span inside its text, from Arrow's own buffers; others are told apart."""
    bound = st.integers(-2, 62)
    spans = data.draw(st.lists(st.tuples(st.integers(0, len(texts) - 1), bound, bound), max_size=8))
    parents, bounds = np.array([s[0] for s in spans], np.int64), np.array([s[1:] for s in spans], np.int64)
    array = pa.array(["skipped", *texts], pa.large_string())[1:]
    pieces = TextSlices.of(array, parents, bounds.reshape(-1, 2))
    expected = [texts[p][s:e] if 0 <= s < e <= len(texts[p]) else None for p, s, e in spans]
    assert pieces.inside.tolist() == [piece is not None for piece in expected]
    assert pieces.strings().to_pylist() == [piece or "" for piece in expected]


def test_a_null_text_has_no_pieces() -> None:
    """Not even where Arrow keeps bytes under it."""
    array = pa.LargeStringArray.from_buffers(
        2,
        pa.py_buffer(np.array([0, 3, 6], np.int64)),
        pa.py_buffer(b"abcdef"),
        pa.py_buffer(b"\x02"),
    )
    pieces = TextSlices.of(array, np.array([0, 1]), np.array([[0, 2], [0, 2]]))
    assert pieces.inside.tolist() == [False, True]
    assert pieces.strings().to_pylist() == ["", "de"]


def test_slices_of_a_few_rows_read_these_alone() -> None:
    """A batch shares its bytes with the row group that it is cut from; what is read and allocated grows with the batch.

    Offsets are those of the batch: the same as of a copy with bytes of its own.
    """
    whole = pa.array([f"Łódź {number} " * 100 for number in range(5000)], pa.large_string())
    batch, parents, spans = whole[2500:2504], np.arange(4), np.tile([0, 4], (4, 1))
    tracemalloc.start()
    found = TextSlices.of(batch, parents, spans)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.strings().to_pylist() == ["Łódź"] * 4
    assert whole.nbytes > 5_000_000
    assert peak < 200_000


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("abcdefghz")))
def test_redirects_are_followed_to_their_ends(leads: dict[str, str]) -> None:
    """Through chains of any length; what goes round in a circle is counted and left out."""
    table = pa.table(
        {
            name: pa.array(list(v), pa.large_string())
            for name, v in zip(("source", "target"), (leads, leads.values()), strict=True)
        }
    )
    expected = {}
    for source in leads:
        title, steps = source, 0
        while title in leads and steps <= len(leads):
            title, steps = leads[title], steps + 1
        if title not in leads:
            expected[source] = title
    found = Redirects.of(table)
    assert dict(zip(found.sources.to_pylist(), found.targets.to_pylist(), strict=True)) == expected
    assert found.circular == len(leads) - len(expected)
    titles = pa.chunked_array([pa.array(["a", "z", "other"], pa.large_string())])
    assert found.resolved(titles).to_pylist() == [expected.get(title, title) for title in ("a", "z", "other")]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Paris", "Paris"),
        ("Paris, Texas (film)", "Paris, Texas"),
        ("en:Beyoncé", "Beyoncé"),
        ("zh-min-nan:Paris (Texas)", "Paris"),
        ("simple:Paris", "Paris"),
        ("ja:東京（曖昧さ回避）", "東京"),
        ("(500) Days of Summer", "(500) Days of Summer"),
        ("(film)", "(film)"),
        ("Star Trek: Picard", "Star Trek: Picard"),
        ("re: it", "re: it"),
        ("New_York", "New York"),
        (" _ ", ""),
    ],
)
def test_the_name_of_a_title(title: str, name: str) -> None:
    """Without language and disambiguation, with spaces for underscores."""
    assert own_names(written(pa.chunked_array([[title]]))).to_pylist() == [name]


_links = st.lists(st.tuples(st.sampled_from(["US", "U.S.", "U S", "us "]), st.sampled_from(["A", "B", "C"])))


@given(st.lists(_links, max_size=3), st.integers(1, 3))
def test_counts_equal_a_naive_count(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[tuple[str, str]]], least: int
) -> None:
    """Links by normalised name and title, those below the minimum left out; own names stay."""
    folder = tmp_path_factory.mktemp("links", numbered=True)
    rows: list[tuple[str | None, list[Link] | None]] = []
    for links in texts:
        text, spans = "", list[Link]()
        for name, title in links:
            spans.append((len(text) + 1, len(text) + 1 + len(name), title))
            text += f" {name}"
        rows.append((text, spans))
    counts = Counter((normalise(name), title) for links in texts for name, title in links)
    titles = {title for _, title in counts}
    expected = {pair: count for pair, count in counts.items() if count >= least}
    expected |= {(title, title): 1 for title in titles}
    paths = [documents(folder / f"{i}.parquet", [row]) for i, row in enumerate(rows)]
    if not titles:
        with pytest.raises((InputError, UsageError)):
            build_aliases(str(folder / "out"), paths, [], [])
        return
    built = build_aliases(str(folder / "out"), paths, [], [], min_count=least)
    found = rows_of(folder / "out")
    assert {(name, title): count for name, title, count in found} == expected
    assert found == sorted(found, key=lambda row: (row[0], -row[2], row[1]))
    assert built.links == sum(count for count in counts.values() if count >= least)
    assert (built.rows, built.titles) == (len(found), len(titles))


def test_all_inputs_together(tmp_path: Path) -> None:
    """Mentions, anchors and redirects, with all that makes names and titles one."""
    gold = documents(
        tmp_path / "gold.parquet",
        [
            ("NYC, the  Big\nApple", [(0, 3, "New_York_City"), (5, 19, "NYC"), (0, 99, "X"), (5, 5, "X")]),
            (None, [(0, 1, "X")]),
            ("nothing", None),
        ],
    )
    found = documents(tmp_path / "found.parquet", [("NYC and I", [(0, 3, "New York City"), (8, 9, None)])], "mentions")
    anchors = parquet(
        tmp_path / "anchors.parquet",
        name=["NYC", "Paris", "Known"],
        title=["NYC (song)", "Paris", "Known"],
        count=[7, 2, 0],
        qid=[None, "Q90", None],
    )
    plain = parquet(tmp_path / "plain.parquet", name=["Paris", " "], title=["ja:パリ", "X"])
    redirects = parquet(
        tmp_path / "redirects.parquet",
        source=["NYC", "Big_Apple_(nickname)", "Loop", "Loop 2", "NYC", "Lutetia"],
        target=["Big Apple (nickname)", "New York City", "Loop 2", "Loop", "Zzz", "Paris"],
    )
    built = build_aliases(str(tmp_path / "out.parquet"), [gold, found], [anchors, plain], [redirects])
    assert rows_of(tmp_path / "out.parquet") == [
        ("Big Apple", "New York City", 1),
        ("Known", "Known", 1),
        ("Lutetia", "Paris", 1),
        ("NYC", "NYC (song)", 7),
        ("NYC", "New York City", 2),
        ("New York City", "New York City", 1),
        ("Paris", "Paris", 2),
        ("Paris", "ja:パリ", 1),
        ("the Big Apple", "New York City", 1),
        ("パリ", "ja:パリ", 1),
    ]
    qids = {row["title"]: row["qid"] for row in pq.read_table(tmp_path / "out.parquet").to_pylist()}
    assert qids["Paris"] == "Q90"
    assert built.links == 13
    assert built.skipped == {
        "blank name or title": 1,
        "circular redirect": 2,
        "offset outside of the text": 3,
        "second redirect of a title": 1,
    }
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert schema == load_contract("aliases").schema()
    assert len(load_aliases(str(tmp_path / "out.parquet"), tmp_path / "cache")) == built.names
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.is_file()) == [".parquet"] * 6


def titled(table: pa.Table) -> pa.Table:
    """Annotated documents whose mention, the first word, is linked."""
    annotated = corpora.annotate(table)
    place = annotated.schema.get_field_index("mentions")
    kind = annotated.schema.field(place).type
    mentions: list[list[dict[str, Any]]] = annotated["mentions"].to_pylist()
    linked = [[{**one, "title": "Łódź", "qid": "Q580"} for one in found] for found in mentions]
    return annotated.set_column(place, "mentions", pa.array(linked, kind))


def test_what_annotate_has_linked(tmp_path: Path) -> None:
    """An OUTPUT counts as one file: its committed rows, by their column `mentions`."""
    corpora.put(tmp_path, "in/a.parquet", corpora.documents(5))
    plan = make_plan(str(tmp_path / "in"), Storage.at(str(tmp_path / "out")), corpora.job(), corpora.FINGERPRINT)
    corpora.run(plan, corpora.context(), titled)
    built = build_aliases(str(tmp_path / "aliases"), [str(tmp_path / "out")], [], [])
    assert built.links == 5
    names = ["Łódź", *(f"Łódź{number}" for number in range(5))]
    assert rows_of(tmp_path / "aliases") == [(name, "Łódź", 1) for name in names]
    assert set(pq.read_table(tmp_path / "aliases")["qid"].to_pylist()) == {"Q580"}


def test_an_id_is_the_titles_own(tmp_path: Path) -> None:
    """A redirect's id counts only where its target has none."""
    anchors = parquet(
        tmp_path / "anchors.parquet",
        name=["a", "b", "c", "d"],
        title=["Old", "New", "Elder", "Young"],
        qid=["Q1", "Q2", "Q3", None],
    )
    redirects = parquet(tmp_path / "r.parquet", source=["Old", "Elder"], target=["New", "Young"])
    build_aliases(str(tmp_path / "out"), [], [anchors], [redirects])
    found = {row["title"]: row["qid"] for row in pq.read_table(tmp_path / "out").to_pylist()}
    assert found == {"New": "Q2", "Young": "Q3"}


def test_ids_of_a_map_go_before_those_of_the_data(tmp_path: Path) -> None:
    """Redirects are followed first; an id that the map contradicts is counted, one for each title."""
    anchors = parquet(
        tmp_path / "anchors.parquet",
        name=["a", "b", "c", "d", "e"],
        title=["New York", "New York", "Paris", "Rome", "Bonn"],
        qid=["Q1", "Q1", "Q90", None, "Q586"],
    )
    redirects = parquet(tmp_path / "r.parquet", source=["Roma", "NYC"], target=["Rome", "New York"])
    ids = parquet(
        tmp_path / "qids.parquet",
        title=["New_York", "NYC", "Paris", "Roma", "Unused"],
        qid=["Q60", "Q5", "Q90", "Q220", "Q7"],
    )
    built = build_aliases(str(tmp_path / "out"), [], [anchors], [redirects], qids=[ids])
    found = {row["title"]: row["qid"] for row in pq.read_table(tmp_path / "out").to_pylist()}
    assert found == {"New York": "Q60", "Paris": "Q90", "Rome": "Q220", "Bonn": "Q586"}
    assert built.skipped == {"Wikidata id other than the map's": 1}
    null = parquet(tmp_path / "null.parquet", title=["Paris"], qid=pa.array([None], pa.string()))
    with pytest.raises(InputError, match=r"null\.parquet: column 'qid' is null in 1 rows"):
        build_aliases(str(tmp_path / "out"), [], [anchors], [], qids=[null])


def test_the_order_of_the_inputs_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same links give the same bytes, also where they are added up in several rounds."""
    rows: list[tuple[str | None, list[Link] | None]] = [(f"name{i % 7}", [(0, 5, f"T{i % 3}")]) for i in range(50)]
    one, other = documents(tmp_path / "a.parquet", rows), documents(tmp_path / "b.parquet", rows[::-1])
    build_aliases(str(tmp_path / "first"), [one, one], [], [])
    monkeypatch.setattr(alias_table, "_PENDING", 5)
    build_aliases(str(tmp_path / "second"), [one, other], [], [])
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """One line that names the file and what is wrong in it."""
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1")
    text = parquet(tmp_path / "text.parquet", text=["a"])
    no_title = parquet(tmp_path / "no_title.parquet", text=["a"], mentions=[[{"start": 0, "end": 1}]])
    number = parquet(tmp_path / "number.parquet", text=["a"], links=[3])
    negative = parquet(tmp_path / "negative.parquet", name=["a"], title=["A"], count=[-1])
    null = parquet(tmp_path / "null.parquet", name=["a", None], title=["A", "A"])
    for mentions, anchors, redirects, message in (
        ([str(broken)], [], [], "broken.parquet: cannot be read"),
        ([text], [], [], "text.parquet: no column mentions"),
        ([no_title], [], [], "no_title.parquet: a linked mention has no member 'title'"),
        ([number], [], [], "number.parquet: cannot be read"),
        ([], [negative], [], "negative.parquet: column 'count' has negative values"),
        ([], [null], [], "null.parquet: column 'name' is null in 1 rows"),
        ([], [text], [], "text.parquet: no column name, title"),
        ([], [], [text], "text.parquet: no column source, target"),
        ([str(tmp_path / "missing")], [], [], "missing does not exist"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            build_aliases(str(tmp_path / "out.parquet"), mentions, anchors, redirects)
    assert not (tmp_path / "out.parquet").exists()


def test_nothing_to_write(tmp_path: Path) -> None:
    """No input, or inputs without a link; and a place where nothing can be written."""
    with pytest.raises(UsageError, match="--mentions"):
        build_aliases(str(tmp_path / "out"), [], [], [])
    unlinked = documents(tmp_path / "a.parquet", [("text", [(0, 4, None)])])
    with pytest.raises(InputError, match="no link"):
        build_aliases(str(tmp_path / "out"), [unlinked], [], [])
    linked = documents(tmp_path / "b.parquet", [("text", [(0, 4, "T")])])
    with pytest.raises(OutputError, match="cannot be written"):
        build_aliases(str(tmp_path / "a.parquet" / "out"), [linked], [], [])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`aliases build` writes the table, tells what is in it and what was left out, in words or as JSON."""
    linked = documents(tmp_path / "a.parquet", [("Ajax won", [(0, 4, "AFC Ajax"), (0, 9, "X")])])
    out = str(tmp_path / "new" / "out.parquet")
    assert run(["aliases", "build", out, "--mentions", linked]) == 0
    assert capsys.readouterr().out == (
        f"{out}: 2 names of 1 titles in 2 rows, from 1 links\n  left out: 1 × offset outside of the text\n"
    )
    assert run(["aliases", "build", out, "--mentions", linked, "--mentions", linked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["links"] == 2
    assert rows_of(out) == [("AFC Ajax", "AFC Ajax", 1), ("Ajax", "AFC Ajax", 2)]
    ids = parquet(tmp_path / "qids.parquet", title=["AFC Ajax"], qid=["Q81888"])
    assert run(["aliases", "build", out, "--mentions", linked, "--qids", ids]) == 0
    capsys.readouterr()
    assert pq.read_table(out)["qid"].unique().to_pylist() == ["Q81888"]
    assert run(["aliases", "build", out, "--qids", ids]) == 2
    assert capsys.readouterr().err.startswith("error: nothing to build from")
