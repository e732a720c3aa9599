"""Bad input through the real command: what docs/troubleshoot.md states, line by line.

Two runs serve all tests: one over a folder of odd files among good ones, one with given mentions and a long
document. What is refused as a whole needs no Ray: tests/unit/test_refusals.py.
"""

import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import luke_batch
from luke_batch import cli
from tests.corpora import documents, put

pytestmark = pytest.mark.usefixtures("ray_session")

LONG_WORD = "example" * 14286
"""100,002 characters; `example` is one token of the tests' tokenizer, which keeps the passes few."""
ODD_TEXTS: dict[str, str | None] = {
    "null": None,
    "empty": "",
    "white space": " \n\t\u3000\x85",
    "right to left": "ولد نجيب محفوظ في القاهرة. \u200fשלום לעולם\u200e.",
    "combining": "Zu\u0308rich and e\u0301tude, \u0301 alone.",
    "emoji": "👩\u200d👩\u200d👧 visited 東京 with 😀 and 🇩🇪.",
    "nul": "Marie\x00Curie went to \x00 Paris.",
    "special tokens": "[MASK] met <ent> and <ent2> in <s> with </s>, <mask> and [PAD].",
    "long word": f"Marie met {LONG_WORD} in Paris.",
    "good": "Marie Curie was born in Warsaw.",
}
BLANK = ("null", "empty", "white space")
TEXT_KINDS: dict[str, pa.DataType] = {
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
}
SPANS = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())]))
LONG_DOCUMENT = "Marie Curie was born in Warsaw. " * 163_840
"""5 MB and a little more."""
ANNOTATIONS = ("sentences", "mentions", "relations", "mention_embeddings", "text_embedding", "coverage")


@dataclass(frozen=True)
class Run:
    """One run of the command."""

    input: Path
    output: Path
    options: tuple[str, ...]
    exit_code: int
    summary: dict[str, Any]
    stderr: str

    def tables(self, source: str) -> list[pa.Table]:
        """The committed files of one source file, in the order of its rows."""
        found = [pq.read_table(path) for path in self.output.rglob("data/**/*.parquet")]
        mine = [t for t in found if t.schema.metadata[b"luke_batch.source"].decode() == source]
        return sorted(mine, key=lambda t: int(t.schema.metadata[b"luke_batch.rows"].split(b"-")[0]))

    def table(self, source: str) -> pa.Table:
        """All committed rows of one source file."""
        return pa.concat_tables(t.replace_schema_metadata() for t in self.tables(source))

    def letters(self) -> list[dict[str, Any]]:
        """All dead letters."""
        found = [pq.read_table(path) for path in self.output.glob("_dead_letters/*.parquet")]
        return pa.concat_tables(found).to_pylist()

    def letter(self, source: str) -> dict[str, Any]:
        """The one dead letter of a source file."""
        (letter,) = [letter for letter in self.letters() if letter["source"] == source]
        return letter

    def again(self, *options: str) -> "Run":
        """The same command with further options, without the file that every run tries to read again."""
        damaged = self.input / "corrupt_page.parquet"
        aside = damaged.rename(self.input / ".aside")
        try:
            return command(self.input, self.output, *self.options, *options)
        finally:
            aside.rename(damaged)


def command(input: Path, output: Path, *options: str) -> Run:
    """`luke-batch annotate INPUT OUTPUT --json …` in this process, on the Ray that runs here."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.run(["annotate", str(input), str(output), "--json", *options])
    summary = json.loads(out.getvalue()) if out.getvalue() else {}
    return Run(input, output, options, code, summary, err.getvalue())


def settings(checkpoint: Path, *assignments: str) -> Iterator[str]:
    """Options: the tests' checkpoint in one actor, small fragments, and `assignments`."""
    common = (f"models.main.path={checkpoint}", "models.main.actors=1", "output.max_rows=20")
    for assignment in (*common, *assignments):
        yield from ("--set", assignment)


def not_utf8(texts: list[str | None], row: int) -> pa.Array:
    """`texts` as a string column whose row `row` is no UTF-8."""
    values = [None if text is None else text.encode() for text in texts]
    values[row] = b"caf\xe9"
    return pa.array(values, pa.binary()).view(pa.string())


def odd_types(rows: int) -> pa.Table:
    """Pass-through columns of types that pipelines like to lose."""
    return pa.table(
        {
            "price": pa.array([None, *["12.50"] * (rows - 1)], pa.string()).cast(pa.decimal128(9, 2)),
            "when": pa.array(range(rows), pa.timestamp("us", "Europe/Warsaw")),
            "vector": pa.array([[1.0, 2.0]] * rows, pa.list_(pa.float32(), 2)),
            "tags": pa.array([[("a", 1)]] * rows, pa.map_(pa.string(), pa.int32())),
            "blob": pa.array([b"\x00\xff"] * rows, pa.binary()),
            "nothing": pa.nulls(rows),
            "kind": pa.array(["x"] * rows).dictionary_encode(),
            "nested": pa.array([[{"a": [None, 1]}]] * rows),
        }
    )


def damaged_page(path: Path, table: pa.Table) -> None:
    """Two row groups, of which the second has a text page with garbage in it and a sound footer."""
    half = table.num_rows // 2
    plain = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    put(path.parent, path.name, table, row_group_size=half, **plain)
    column = pq.read_metadata(path).row_group(1).column(table.schema.get_field_index("text"))
    content = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    content[middle : middle + 8] = b"\xff" * 8
    path.write_bytes(content)


def write_odd_files(folder: Path) -> None:
    """Good files, bad ones and odd ones."""
    good = documents(30)
    put(folder, "good.parquet", good)
    (folder / "zero_bytes.parquet").touch()
    whole = (folder / "good.parquet").read_bytes()
    (folder / "truncated.parquet").write_bytes(whole[: len(whole) // 2])
    damaged_page(folder / "corrupt_page.parquet", documents(40, first=100))
    put(folder, "no_text.parquet", good.drop_columns(["text"]))
    put(folder, "binary.parquet", good.set_column(1, "text", good["text"].cast(pa.binary())))
    put(folder, "no_rows.parquet", good.slice(0, 0))
    extra = pa.table({**dict(zip(good.column_names, good.columns, strict=True)), "author": ["x"] * 30})
    put(folder, "extra.parquet", extra.slice(0, 3).drop_columns(["year"]))
    put(folder, "wider.parquet", good.slice(0, 3).set_column(2, "year", [[2**40, 1, 2]]))
    for name, kind in TEXT_KINDS.items():
        texts = good["text"].slice(0, 3).combine_chunks()
        other = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
        put(folder, f"{name}.parquet", good.slice(0, 3).set_column(1, "text", other))
    put(folder, "integer_ids.parquet", good.slice(0, 3).set_column(0, "id", [[7, 7, None]]))
    put(folder, "duplicate_ids.parquet", good.slice(0, 3).set_column(0, "id", [["same"] * 3]))
    names, texts = list(ODD_TEXTS), list(ODD_TEXTS.values())
    put(folder, "odd_texts.parquet", pa.table({"id": names, "text": texts}))
    broken = odd_types(3).append_column("id", [["a", "b", "c"]])
    broken = broken.append_column("text", not_utf8(["One.", "Two.", "Three."], 1))
    put(folder, "not_utf8.parquet", broken)
    put(folder, "our_names.parquet", good.slice(0, 3).append_column("mentions", [["theirs"] * 3]))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, ray_session: None, checkpoint: Path) -> Run:  # noqa: ARG001
    """The run over all odd files, with all four heads."""
    folder = tmp_path_factory.mktemp("odd")
    write_odd_files(folder / "in")
    return command(folder / "in", folder / "out", *settings(checkpoint))


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, ray_session: None, checkpoint: Path) -> Run:  # noqa: ARG001
    """The run with given mentions in a column `mentions`: wrong ones among good ones, and a long document."""
    text = "Marie Curie was born in Warsaw."
    place, last = {"start": 24, "end": 30, "label": "LOC"}, len(LONG_DOCUMENT)
    rows: dict[str, tuple[str | None, Any]] = {
        "good": (text, [place]),
        "beyond": (text, [place, {**place, "end": 32}]),
        "before": (text, [{**place, "start": -1}]),
        "reversed": (text, [{**place, "start": 30, "end": 24}]),
        "empty": (text, [{**place, "end": 24}]),
        "half": (text, [{**place, "end": None}]),
        "of a null text": (None, [place]),
        "none": (text, None),
        "long": (LONG_DOCUMENT, [{**place, "start": last - 8, "end": last - 2}, place]),
        "to the end": (text, [{**place, "start": 0, "end": 31}]),
    }
    folder = tmp_path_factory.mktemp("given")
    columns = {
        "id": list(rows),
        "text": [text for text, _ in rows.values()],
        "mentions": pa.array([mentions for _, mentions in rows.values()], SPANS),
    }
    put(folder / "in", "spans.parquet", pa.table(columns))
    members = pa.StructArray.from_arrays(
        [pa.array([0, 24, 24]), pa.array([11, 30, 30]), not_utf8(["PER", "LOC", "LOC"], 1)],
        fields=list(SPANS.value_type),
    )
    broken = pa.ListArray.from_arrays(pa.array([0, 2, 3], pa.int32()), members)
    put(
        folder / "in",
        "labels.parquet",
        pa.table({"id": ["bad", "good"], "text": [text] * 2, "mentions": broken}),
    )
    heads = "heads=[{head: ner, spans: given}, {head: embeddings, of: mentions}]"
    options = settings(checkpoint, "input.mentions_column=mentions", heads)
    return command(folder / "in", folder / "out", *options)


def test_the_run_ends_by_its_budget(odd: Run) -> None:
    """Never a crash: everything is accounted for (exit 3, not 4 or 1), and nothing is said of errors."""
    assert (odd.exit_code, odd.summary["missing"], odd.summary["failures"]) == (3, [], [])
    assert odd.stderr == "" or "Traceback" not in odd.stderr
    assert (odd.summary["dead_documents"], odd.summary["dead_files"]) == (1, 5)


def test_the_budget_decides_between_0_and_3(odd: Run) -> None:
    """Five dead letters: a count of five or a share that allows five is 0, anything less is 3."""
    share = 5 / odd.again().summary["documents"]
    for budget, code in ((5, 0), (4, 3), (share * 1.01, 0), (share * 0.99, 3), (0, 3)):
        assert odd.again("--set", f"output.error_budget={budget}").exit_code == code


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("zero_bytes.parquet", "is empty (zero bytes), which is no Parquet file"),
        ("truncated.parquet", "is no complete Parquet file"),
        ("corrupt_page.parquet", ""),
        ("no_text.parquet", "has no column 'text'"),
        ("binary.parquet", "column 'text' is binary, not text"),
    ],
)
def test_a_bad_file_is_one_dead_letter(odd: Run, source: str, said: str) -> None:
    """With the file's name and its cause, without a row or an id."""
    letter = odd.letter(source)
    assert (letter["row"], letter["id"]) == (None, None)
    assert letter["stage"] in ("plan", "read")
    assert source in letter["message"]
    assert said in letter["message"]


def test_the_files_beside_bad_ones_are_done(odd: Run) -> None:
    """Every row of every other file is committed; of the damaged file, the fragments that can be read."""
    bad = {"zero_bytes", "truncated", "no_text", "binary", "corrupt_page", "not_utf8"}
    for path in odd.input.iterdir():
        if path.stem not in bad:
            assert odd.table(path.name).num_rows == pq.read_metadata(path).num_rows, path.name
    assert odd.table("good.parquet")["id"].to_pylist() == documents(30)["id"].to_pylist()
    assert odd.table("corrupt_page.parquet").num_rows == 20


def test_a_file_without_rows_is_done_with_zero_rows(odd: Run) -> None:
    """One committed file with all columns and no row."""
    (table,) = odd.tables("no_rows.parquet")
    assert table.num_rows == 0
    assert table.column_names == ["id", "text", "year", *ANNOTATIONS]


def test_each_output_keeps_the_columns_of_its_source(odd: Run) -> None:
    """Whatever the neighbours have: names, order, types and values."""
    for name in ("extra", "wider", "good", "our_names", "integer_ids"):
        source = pq.read_table(odd.input / f"{name}.parquet")
        found = odd.table(f"{name}.parquet")
        renamed = ["source_mentions" if column == "mentions" else column for column in source.column_names]
        assert found.column_names == [*renamed, *ANNOTATIONS]
        assert found.select(renamed).rename_columns(source.column_names).equals(source)


def test_read_unifies_the_columns(odd: Run) -> None:
    """One dataset: a column that some files lack is null there, numbers are widened, ids are strings."""
    table = luke_batch.read(str(odd.output)).to_table()
    assert {"author", "year", "source_mentions", "price", "vector", "nested"} <= set(table.column_names)
    assert table.schema.field("year").type == pa.int64()
    assert 2**40 in table["year"].to_pylist()
    assert {"7", "d0", "same"} <= set(table["id"].to_pylist())
    assert table["author"].null_count == table.num_rows - 3
    assert table.num_rows == odd.summary["documents"] - 20 - 1  # half of a damaged file, and a text that is not UTF-8


@pytest.mark.parametrize("name", TEXT_KINDS)
def test_every_kind_of_text_is_annotated(odd: Run, name: str) -> None:
    """large_string, string_view and dictionary give what string gives, and keep their type."""
    found, plain = odd.table(f"{name}.parquet"), odd.table("good.parquet").slice(0, 3)
    assert found.schema.field("text").type == TEXT_KINDS[name]
    assert found["text"].to_pylist() == plain["text"].to_pylist()
    for column in ("sentences", "coverage"):
        assert found[column].to_pylist() == plain[column].to_pylist()
    assert spans_of(found) == spans_of(plain)


def test_ids_may_be_integers_and_repeat(odd: Run) -> None:
    """Rows are told apart by their place; repeated ids are warned of once a file."""
    assert odd.table("integer_ids.parquet")["id"].to_pylist() == [7, 7, None]
    assert odd.table("duplicate_ids.parquet")["id"].to_pylist() == ["same"] * 3
    for source, count in (("integer_ids.parquet", 1), ("duplicate_ids.parquet", 2)):
        (line,) = [warning for warning in odd.summary["warnings"] if source in warning]
        assert f"{count} documents bear the id of an earlier one" in line


@pytest.mark.parametrize("name", BLANK)
def test_a_text_without_words_has_empty_annotations(odd: Run, name: str) -> None:
    """Null, empty and white-space texts: a committed row, empty lists, no vector."""
    row = odd_row(odd, name)
    assert row["text"] == ODD_TEXTS[name]
    assert [row[column] for column in ANNOTATIONS[:4]] == [[], [], [], []]
    assert row["text_embedding"] is None
    assert row["coverage"]["characters"] == len(ODD_TEXTS[name] or "")
    assert (row["coverage"]["windows"], row["coverage"]["dropped"]) == (0, [])


@pytest.mark.parametrize("name", [name for name in ODD_TEXTS if name not in BLANK])
def test_an_odd_text_is_annotated(odd: Run, name: str) -> None:
    """Right to left, combining, emoji, NUL, literal special tokens: offsets are those of the text itself."""
    row = odd_row(odd, name)
    text = ODD_TEXTS[name] or ""
    assert row["text"] == text
    assert [text[m["start"] : m["end"]] for m in row["mentions"]] == [m["text"] for m in row["mentions"]]
    covered = "".join(text[s["start"] : s["end"]] for s in row["sentences"])
    assert "".join(covered.split()) == "".join(text.split())
    assert row["coverage"]["characters"] == len(text)
    assert row["coverage"]["spans_scored"] > 0
    assert row["text_embedding"] is not None


def test_the_cuts_of_a_long_word_are_counted(odd: Run) -> None:
    """A word of 100,000 characters: its pieces are left out as spans, with the reason, but read."""
    coverage = odd_row(odd, "long word")["coverage"]
    dropped = {entry["reason"]: entry["count"] for entry in coverage["dropped"]}
    assert dropped.keys() <= {"longer_than_max_mention_length", "longer_than_window"}
    assert sum(dropped.values()) >= len(LONG_WORD) // 1000
    assert coverage["tokens"] > len(LONG_WORD) // len("example")


def test_a_text_that_is_not_utf8_goes_to_the_dead_letters(odd: Run) -> None:
    """That document alone, with id and row; its neighbours keep columns of every type as they were."""
    letter = odd.letter("not_utf8.parquet")
    assert (letter["id"], letter["row"], letter["stage"]) == ("b", 1, "read")
    assert "not valid UTF-8" in letter["message"]
    found = odd.table("not_utf8.parquet")
    assert found["id"].to_pylist() == ["a", "c"]
    expected, names = pq.read_table(odd.input / "not_utf8.parquet"), odd_types(3).column_names
    assert found.schema.field("when").type == pa.timestamp("us", "Europe/Warsaw")
    assert found.select(names).schema.equals(expected.select(names).schema)
    assert found.select(names).to_pylist() == expected.select(names).take([0, 2]).to_pylist()


def test_a_column_with_one_of_our_names_is_kept(odd: Run) -> None:
    """`mentions` of the source is `source_mentions`; one warning says so."""
    assert odd.table("our_names.parquet")["source_mentions"].to_pylist() == ["theirs"] * 3
    (line,) = [warning for warning in odd.summary["warnings"] if "mentions" in warning]
    assert line == "INPUT has a column mentions, which luke-batch writes: it is kept as source_mentions"


def test_dead_letters_are_read_with_one_line(odd: Run) -> None:
    """The lines of docs/troubleshoot.md work: DuckDB lists the letters, pandas counts them by cause."""
    import duckdb
    import pandas as pd

    letters = f"{odd.output}/_dead_letters"
    query = f"SELECT source, row, id, stage, message FROM '{letters}/*.parquet' ORDER BY ALL"
    with duckdb.connect() as database:
        assert len(database.sql(query).fetchall()) == 6
    counts = pd.read_parquet(letters).groupby(["stage", "error_class"]).size()
    found = cast("dict[tuple[str, str], int]", counts.to_dict())
    assert (found["plan", "FragmentError"], found["read", "DocumentError"]) == (2, 1)


def test_a_second_run_changes_nothing(odd: Run) -> None:
    """Bad files are not reported twice and bad documents not tried again."""
    before = {path: path.stat().st_mtime_ns for path in odd.output.rglob("*")}
    again = odd.again()
    assert (again.exit_code, again.summary["nothing_to_do"]) == (3, True)
    assert {path: path.stat().st_mtime_ns for path in odd.output.rglob("*")} == before


def test_wrong_given_spans_go_to_the_dead_letters(given: Run) -> None:
    """Out of range, reversed, empty, incomplete: each document alone, with its id, row and cause."""
    letters = {letter["id"]: letter for letter in given.letters() if letter["source"] == "spans.parquet"}
    causes = {
        "beyond": "[24, 32) is outside of the text of 31 characters",
        "before": "[-1, 30) is outside of the text of 31 characters",
        "reversed": "[30, 24) is reversed or empty",
        "empty": "[24, 24) is reversed or empty",
        "half": "without start or end",
        "of a null text": "[24, 30) is outside of the text of 0 characters",
    }
    assert letters.keys() == causes.keys()
    for row, name in enumerate(causes, start=1):
        assert (letters[name]["row"], letters[name]["stage"]) == (row, "propose")
        assert causes[name] in letters[name]["message"]
    assert given.table("spans.parquet")["id"].to_pylist() == ["good", "none", "long", "to the end"]
    assert (given.exit_code, given.summary["dead_documents"]) == (3, 7)


def test_a_given_label_that_is_not_utf8_fails_its_document_alone(given: Run) -> None:
    """Its neighbour in the same file is annotated."""
    letter = given.letter("labels.parquet")
    assert (letter["id"], letter["row"], letter["error_class"]) == ("bad", 0, "UnicodeDecodeError")
    assert given.table("labels.parquet")["id"].to_pylist() == ["good"]


def test_a_document_of_5_megabytes_is_annotated(given: Run) -> None:
    """Every sentence is there, and mentions at both ends have their place, label and vector."""
    table = given.table("spans.parquet")
    row = table.slice(table["id"].to_pylist().index("long"), 1).to_pylist()[0]
    assert len(row["text"]) > 5_000_000
    assert len(row["sentences"]) == row["coverage"]["sentences"] == 163_840
    assert [(m["text"], m["sentence"]) for m in row["mentions"]] == [("Warsaw", 0), ("Warsaw", 163_839)]
    assert None not in row["mention_embeddings"]
    assert row["coverage"]["dropped"] == []


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["models.main.num_cpus=1000"], "each actor needs 1000 CPUs, and no node has both"),
        (["models.main.num_gpus=1.5"], "Ray splits one GPU, but takes several whole; use 1"),
        (["models.main.device=cuda"], "`device: cuda` needs `num_gpus` above 0"),
        (["models.main.actors=3"], "lower num_cpus, num_gpus or actors of a model in `models`, or add nodes"),
    ],
)
def test_a_pipeline_that_could_never_run_is_refused(
    tmp_path: Path, checkpoint: Path, assignments: list[str], said: str
) -> None:
    """The cluster's numbers are in the line, and nothing is written."""
    put(tmp_path / "in", "a.parquet", documents(2))
    refused = command(tmp_path / "in", tmp_path / "out", *settings(checkpoint, *assignments))
    assert (refused.exit_code, refused.summary) == (2, {})
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1
    assert said in refused.stderr
    assert not (tmp_path / "out").exists()


def odd_row(run: Run, name: str) -> dict[str, Any]:
    """The committed row of one of ODD_TEXTS."""
    (row,) = [row for row in run.table("odd_texts.parquet").to_pylist() if row["id"] == name]
    return row


def spans_of(table: pa.Table) -> list[list[tuple[int, int, str]]]:
    """Mentions without their scores, which differ in the last bits."""
    rows = table["mentions"].to_pylist()
    return [[(m["start"], m["end"], m["label"]) for m in row] for row in rows]
