"""The commit: every row once, source columns untouched, dead rows aside, one atomic file a fragment."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luke_batch.base.errors import ContractError
from luke_batch.config import InputConfig
from luke_batch.corpus.commit import Committed
from luke_batch.corpus.dead_letters import without_letters
from luke_batch.corpus.fragments import WorkItem
from luke_batch.corpus.held import Held, read_known, write_known
from luke_batch.corpus.leftovers import find_leftovers, tidy
from luke_batch.corpus.outcome import reconcile
from luke_batch.corpus.output_file import Key, to_parquet
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.read import read_item
from luke_batch.corpus.storage import Storage
from luke_batch.document.columns import ERROR, FRAGMENT, INTERNAL, ROW
from tests.corpora import FINGERPRINT, WRITTEN, annotate, commit, context, documents, job, put, run


def plan_of(folder: Path, table: pa.Table, **options: Any) -> Plan:
    """The plan for one file with `table`."""
    put(folder, "in/a.parquet", table, **options)
    return make_plan(str(folder / "in"), Storage.at(str(folder / "out")), job(), FINGERPRINT)


def plan_again(plan: Plan) -> Plan:
    """A fresh plan over the same INPUT and OUTPUT."""
    return make_plan(plan.source.url, plan.output, job(), FINGERPRINT)


def committed(folder: Path) -> list[pa.Table]:
    """The output files by name."""
    return [pq.ParquetFile(path).read() for path in sorted((folder / "out/data").rglob("*.parquet"))]


def letters(folder: Path) -> pa.Table:
    """All dead letters."""
    return pq.read_table(folder / "out" / "_dead_letters")


def test_files_and_their_columns(tmp_path: Path) -> None:
    """Each fragment is a file with the source's columns in their order, then ours in that of the contract."""
    table = documents(10)
    done = run(plan_of(tmp_path, table), context())
    assert [(each.rows, each.dead) for each in done] == [(3, 0), (3, 0), (4, 0)]
    files = committed(tmp_path)
    assert all(file.column_names == ["id", "text", "year", *WRITTEN] for file in files)
    assert pa.concat_tables(files).select(table.column_names).equals(table)
    assert [(tmp_path / "out" / each.path).stat().st_size for each in done] == [each.bytes for each in done]
    assert not (tmp_path / "out/_dead_letters").exists()


def test_provenance(tmp_path: Path) -> None:
    """File metadata names schema, fingerprint, run, source rows and models, and keeps the source's own."""
    run(plan_of(tmp_path, documents(5).replace_schema_metadata({"made": "by hand"})), context())
    metadata = committed(tmp_path)[1].schema.metadata
    assert metadata[b"made"] == b"by hand"
    expected = {
        "schema": "annotations.v1",
        "fingerprint": FINGERPRINT,
        "run": "run1",
        "source": "a.parquet",
        "rows": "2-5",
        "source_rows": "5",
        "models": "{}",
    }
    found = {name: metadata[f"luke_batch.{name}".encode()].decode() for name in expected}
    assert found == expected


def test_dead_rows_go_aside(tmp_path: Path) -> None:
    """A failed row is in the dead letters with its place and reason, not in the output; the others are."""
    table = documents(5).set_column(1, "text", [["ok 0", "FAIL 1", "ok 2", "FAIL 3", "FAIL 4"]])
    done = run(plan_of(tmp_path, table), context())
    assert [(each.rows, each.dead) for each in done] == [(1, 1), (1, 2)]
    assert [row["id"] for file in committed(tmp_path) for row in file.to_pylist()] == ["d0", "d2"]
    rows = sorted(letters(tmp_path).to_pylist(), key=lambda row: row["row"])
    assert [(row["id"], row["row"], row["stage"]) for row in rows] == [
        ("d1", 1, "segment"), ("d3", 3, "segment"), ("d4", 4, "segment"),
    ]  # fmt: skip
    assert {f"data/{row['fragment']}.parquet" for row in rows} == {each.path for each in done}
    assert {(row["source"], row["run"], row["message"]) for row in rows} == {("a.parquet", "run1", "told to fail")}


def test_only_dead_rows(tmp_path: Path) -> None:
    """A fragment without a good row is committed as a file of zero rows with all columns."""
    (done,) = run(plan_of(tmp_path, documents(2).set_column(1, "text", [["FAIL", "FAIL"]])), context())
    assert (done.rows, done.dead) == (0, 2)
    (file,) = committed(tmp_path)
    assert file.num_rows == 0
    assert file.column_names == ["id", "text", "year", *WRITTEN]


def test_file_without_rows(tmp_path: Path) -> None:
    """A source without rows gives an output without rows; the carrier row never gets there."""
    (done,) = run(plan_of(tmp_path, documents(0)), context())
    assert (done.rows, done.dead) == (0, 0)
    assert committed(tmp_path)[0].column_names == ["id", "text", "year", *WRITTEN]


def calm(table: pa.Table) -> pa.Table:
    """Everything succeeds."""
    return annotate(table.set_column(1, "text", [["fine"] * table.num_rows]))


def replaying(plan: Plan, done: Sequence[Committed]) -> Plan:
    """The plan whose fragments are done again, as `replay` makes it."""
    versions = {entry.path: entry.version for entry in done}
    items = [
        WorkItem(tuple(replace(part, replaces=versions[part.output_path(plan.fingerprint)]) for part in item.fragments))
        for item in plan.items
    ]
    return replace(plan, items=tuple(items))


def failing_plan(folder: Path) -> Plan:
    """Two documents, of which one fails."""
    return plan_of(folder, documents(2).set_column(1, "text", [["FAIL", "ok"]]))


def test_a_good_second_try_removes_dead_letters(tmp_path: Path) -> None:
    """Dead letters of an earlier try of the same fragment do not outlive its commit."""
    plan = failing_plan(tmp_path)
    first = run(plan, context())
    assert letters(tmp_path).num_rows == 1
    run(replaying(plan, first), context(), calm)
    assert list((tmp_path / "out/_dead_letters").iterdir()) == []
    assert committed(tmp_path)[0].num_rows == 2


def test_rows_and_letters_are_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash behind the one write loses no letter: the output file holds it, and the next run shows it again.

    Before, the letters were a file of their own, written first: a replay that was killed between the two left one row
    of two, no letter, and nothing to do.
    """
    plan = failing_plan(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write_atomic", _killed)
        with pytest.raises(_Killed):
            run(plan, context())
    assert committed(tmp_path)[0].num_rows == 1
    assert not (tmp_path / "out/_dead_letters").exists()
    again = plan_again(plan)
    assert again.nothing_to_do
    outcome = reconcile(again, "run2")
    assert (outcome.complete, outcome.dead_documents) == (True, 1)
    tidy(plan.output, find_leftovers(again, outcome))
    assert letters(tmp_path)["id"].to_pylist() == ["d0"]


def test_a_replay_that_is_killed_keeps_rows_and_letters_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after it has committed, and before it removes the letter: the letter goes with the next run."""
    plan = failing_plan(tmp_path)
    first = run(plan, context())
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "remove", _killed)
        with pytest.raises(_Killed):
            run(replaying(plan, first), context(), calm)
    assert (committed(tmp_path)[0].num_rows, letters(tmp_path).num_rows) == (2, 1)
    again = plan_again(plan)
    outcome = reconcile(again, "run2")
    assert (outcome.complete, outcome.dead_documents) == (True, 0)
    tidy(plan.output, find_leftovers(again, outcome))
    assert list((tmp_path / "out/_dead_letters").iterdir()) == []


def test_an_attempt_that_was_overtaken_leaves_what_it_finds(tmp_path: Path) -> None:
    """Run A is paused before it commits one row and a letter; run B commits both rows; A wakes.

    Before, A's file replaced that of B, which had removed the letter: a document was lost, and the run said complete.
    The same holds for a retry of a commit beside its first attempt.
    """
    plan = failing_plan(tmp_path)
    run(plan, context(run_id="b"), calm)
    (late,) = run(plan, context(run_id="a"))
    assert (late.rows, late.dead) == (2, 0)
    assert committed(tmp_path)[0].num_rows == 2
    assert not (tmp_path / "out/_dead_letters").exists()


def test_a_replay_that_was_overtaken_leaves_what_it_finds(tmp_path: Path) -> None:
    """Two replays began with the same file: the first to commit counts."""
    plan = failing_plan(tmp_path)
    again = replaying(plan, run(plan, context()))
    run(again, context(run_id="b"), calm)
    (late,) = run(again, context(run_id="a"))
    assert (late.rows, late.dead) == (2, 0)
    assert list((tmp_path / "out/_dead_letters").iterdir()) == []


def test_a_file_of_an_earlier_version_that_lacks_a_row_is_done_again(tmp_path: Path) -> None:
    """One row of two and no letter, as a kill could leave it. Before, a plan had nothing to do."""
    plan = failing_plan(tmp_path)
    (done,) = run(plan, context())
    path = tmp_path / "out" / done.path
    table = pq.ParquetFile(path).read()
    pq.write_table(table.replace_schema_metadata(without_letters(table.schema.metadata)), path)
    assert plan_again(plan).nothing_to_do  # the letter is there
    key = Key.parse(done.path)
    assert key is not None
    (tmp_path / "out" / key.dead_letter_path).unlink()
    again = plan_again(plan)
    assert (again.short, len(again.items)) == (1, 1)
    assert reconcile(again, "run2").missing == ("a.parquet rows 0-2",)
    run(again, context(), calm)
    assert committed(tmp_path)[0].num_rows == 2
    assert plan_again(plan).nothing_to_do


class _Killed(BaseException):
    """As if the process were killed."""


def _killed(*_: object) -> None:
    raise _Killed


def test_rows_may_come_in_any_order(tmp_path: Path) -> None:
    """Rows are written in the order of the source, whatever order they come in; string_view included."""
    table = documents(6)
    table = table.set_column(1, "text", table["text"].cast(pa.string_view()))
    plan = plan_of(tmp_path, table)

    def shuffled(rows: pa.Table) -> pa.Table:
        done = annotate(rows)
        return pa.concat_tables([done.slice(i, 1) for i in reversed(range(done.num_rows))])

    run(plan, context(), shuffled)
    assert pa.concat_tables(committed(tmp_path)).select(["id", "text", "year"]).equals(table)


def drop_row(table: pa.Table) -> pa.Table:
    """The first row is lost."""
    return table.slice(1)


def double_row(table: pa.Table) -> pa.Table:
    """The first row comes twice."""
    return pa.concat_tables([table, table.slice(0, 1)])


def foreign_row(table: pa.Table) -> pa.Table:
    """Rows claim a fragment that the item does not have."""
    index = table.schema.get_field_index(FRAGMENT)
    return table.set_column(index, FRAGMENT, pa.array([7] * table.num_rows, pa.int32()))


def edit(column: str, change: Callable[[Any], Any]) -> Callable[[pa.Table], pa.Table]:
    """A change of one column's values."""

    def edited(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(column)
        field = table.schema.field(index)
        return table.set_column(index, field, pa.array([change(v) for v in table[column].to_pylist()], field.type))

    return edited


def change_mention(**values: object) -> Callable[[pa.Table], pa.Table]:
    """A change of members of every mention."""
    return edit("mentions", lambda mentions: [{**mention, **values} for mention in mentions])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_row, "exactly once"),
        (double_row, "exactly once"),
        (foreign_row, "exactly once|not in the work item"),
        (change_mention(text="Lodz"), "its text says"),
        (change_mention(end=10_000), "leaves its text"),
        (change_mention(start=-1), "leaves its text"),
        (change_mention(end=0), "leaves its text"),
        (edit("mentions", lambda _: None), "nulls"),
        (edit("mentions", lambda m: [*m, *m[:1], {**m[0], "end": 3, "text": "Łód"}, m[0]]), "sorted"),
        (edit("mention_embeddings", lambda _: []), "one vector for each mention"),
        (edit("sentences", lambda s: s + s), "overlaps"),
        (edit("coverage", lambda _: None), "nulls"),
        (lambda table: table.drop_columns("coverage"), "coverage is missing"),
        (lambda table: table.set_column(table.schema.get_field_index("sentences"), "sentences",
                                        [[[1]] * table.num_rows]), "contract says"),
    ],
)  # fmt: skip
def test_our_own_defects_commit_nothing(tmp_path: Path, damage: Callable[[pa.Table], pa.Table], message: str) -> None:
    """A lost or doubled row, a wrong offset or a wrong column raises before anything is written."""
    plan = plan_of(tmp_path, documents(2))
    with pytest.raises(ContractError, match=message):
        run(plan, context(), lambda table: damage(annotate(table)))
    assert not (tmp_path / "out").exists()


def test_relations_point_at_mentions(tmp_path: Path) -> None:
    """A relation whose index is outside of the mentions is a defect."""
    written = ("sentences", "mentions", "relations")
    plan = plan_of(tmp_path, documents(2))
    wrong = edit("relations", lambda _: [{"head": 0, "tail": 1, "label": "x", "score": 1.0}])
    with pytest.raises(ContractError, match="outside the 1 mentions"):
        run(plan, context(written=written), lambda table: wrong(annotate(table, written=written)))


def test_unreadable_fragments_write_one_letter_for_the_file(tmp_path: Path) -> None:
    """However many fragments of a file fail, it has one dead letter without a row; other files go on."""
    plan = plan_of(tmp_path, documents(10))
    put(tmp_path, "in/b.parquet", documents(2))
    plan = make_plan(str(tmp_path / "in"), plan.output, job(100), FINGERPRINT)
    (tmp_path / "in/a.parquet").unlink()
    done = run(plan, context())
    assert [each.source for each in done] == ["b.parquet"]
    (letter,) = letters(tmp_path).to_pylist()
    assert (letter["source"], letter["row"], letter["id"], letter["stage"]) == (
        "a.parquet",
        None,
        None,
        "read",
    )
    assert letter["error_class"] == "FragmentError"


def test_invalid_utf8(tmp_path: Path) -> None:
    """A text that is not UTF-8 costs its document; an id that is not is reported with U+FFFD."""
    texts = pa.array([b"fine 1", b"bad \xff", b"fine 2"]).view(pa.string())
    ids = pa.array([b"a", b"\xfe", b"c"]).view(pa.string())
    run(plan_of(tmp_path, pa.table({"id": ids, "text": texts})), context())
    assert committed(tmp_path)[0]["id"].to_pylist() == ["a", "c"]
    (letter,) = letters(tmp_path).to_pylist()
    assert letter["id"] == "�"
    assert "UTF-8" in letter["message"]


def test_ids(tmp_path: Path) -> None:
    """Integer ids become text in reports; duplicates are counted and kept; without an id column the place is
    the id.
    """
    table = documents(3).set_column(0, "id", pa.array([7, 7, 8])).set_column(1, "text", [["FAIL", "b", "c"]])
    (done,) = run(plan_of(tmp_path, table), context())
    assert done.duplicate_ids == 1
    assert letters(tmp_path)["id"].to_pylist() == ["7"]
    assert committed(tmp_path)[0]["id"].to_pylist() == [7, 8]
    plan = plan_of(tmp_path / "x", table.drop_columns("id").append_column("id", [["p", "q", "r"]]))
    run(plan, context(input=InputConfig(id_column=None)))
    assert letters(tmp_path / "x")["id"].to_pylist() == ["a.parquet#0"]


def test_colliding_names(tmp_path: Path) -> None:
    """Source columns with names we write are kept as source_<name>, the text column itself included."""
    table = documents(3).rename_columns(["id", "mentions", "sentences"])
    config = InputConfig(text_column="mentions")
    put(tmp_path, "in/a.parquet", table)
    output = Storage.at(str(tmp_path / "out"))
    plan = make_plan(str(tmp_path / "in"), output, job().model_copy(update={"input": config}), FINGERPRINT)
    (done,) = run(plan, context(input=config), lambda rows: annotate(rows, config))
    assert done.renamed == {"mentions": "source_mentions", "sentences": "source_sentences"}
    (file,) = committed(tmp_path)
    assert file.column_names == ["id", "source_mentions", "source_sentences", *WRITTEN]
    assert file["source_mentions"].to_pylist() == table["mentions"].to_pylist()


def test_pass_through_of_every_type(tmp_path: Path) -> None:
    """Output columns have the types and values that the source has when it is read."""
    table = documents(9)
    table = (
        table.set_column(1, "text", table["text"].cast(pa.string_view()))
        .append_column("kind", pa.array(["a", "b", None] * 3).dictionary_encode())
        .append_column("vector", pa.array([[1.0], None, [2.0]] * 3, pa.list_(pa.float64(), 1)))
        .append_column("nested", pa.array([{"a": [n], "b": {"c": None}} for n in range(9)]))
        .append_column(pa.field("sure", pa.int8(), nullable=False), pa.array(range(9), pa.int8()))
    )
    run(plan_of(tmp_path, table), context())
    source = pq.read_table(tmp_path / "in/a.parquet")
    files = committed(tmp_path)
    names = source.column_names
    assert all(pa.schema([file.schema.field(name) for name in names]).equals(source.schema) for file in files)
    assert [row for file in files for row in file.select(names).to_pylist()] == source.to_pylist()


def test_other_programs_read_the_output(tmp_path: Path) -> None:
    """DuckDB, polars, pandas and pyarrow read OUTPUT/data/**/*.parquet; mentions by label, vectors as an
    array.
    """
    put(tmp_path, "in/date=2026-11-20/a.parquet", documents(6))
    run(plan_of(tmp_path, documents(5, first=6)), context())
    pattern = f"{tmp_path}/out/data/**/*.parquet"
    connection = duckdb.connect()
    query = (
        f"SELECT m.label, count(*) FROM (SELECT unnest(mentions) AS m FROM read_parquet('{pattern}'))"
        " WHERE m.label = 'PLACE' GROUP BY 1"
    )
    assert connection.execute(query).fetchall() == [("PLACE", 11)]
    vectors = connection.execute(f"SELECT text_embedding FROM read_parquet('{pattern}')").fetchnumpy()
    assert len(vectors["text_embedding"]) == 11
    frame = pl.read_parquet(pattern, hive_partitioning=False)
    assert frame.explode("mentions").unnest("mentions", separator=".").height == 11
    assert frame["text_embedding"].to_numpy().shape == (11, 3)
    files = sorted((tmp_path / "out/data").rglob("*.parquet"))
    whole = pd.concat([pd.read_parquet(path, partitioning=None) for path in files])
    assert len(whole) == 11
    assert whole["mentions"].iloc[0][0]["label"] == "PLACE"
    assert pq.read_table(tmp_path / "out/data").num_rows == 11


def test_internal_columns_stay_inside(tmp_path: Path) -> None:
    """No committed file has an internal column, whatever the stages added."""
    plan = plan_of(tmp_path, documents(2))

    def extra(table: pa.Table) -> pa.Table:
        return annotate(table).append_column(INTERNAL + "words", pa.array([1] * table.num_rows))

    read = read_item(plan.source, plan.items[0], InputConfig())
    assert {FRAGMENT, ROW, ERROR} < set(extra(read.table).column_names)
    commit(plan, read, context(), extra)
    assert not [name for name in committed(tmp_path)[0].column_names if name.startswith(INTERNAL)]


@pytest.mark.parametrize("index", [[5, 3, 9, 1, 2, 0], range(10, 70, 10)], ids=["column", "range"])
def test_pandas_index_survives_the_cut(tmp_path: Path, index: Sequence[int]) -> None:
    """A file that pandas wrote with an index gives outputs that pandas reads with that index."""
    frame = documents(6).to_pandas().set_index(pd.Index(index, name="number"))
    (tmp_path / "in").mkdir()
    frame.to_parquet(tmp_path / "in/a.parquet")
    plan = make_plan(str(tmp_path / "in"), Storage.at(str(tmp_path / "out")), job(), FINGERPRINT)
    done = run(plan, context())
    parts = [pd.read_parquet(tmp_path / "out" / each.path) for each in done]
    assert pd.concat(parts).index.tolist() == frame.index.tolist()


@pytest.mark.parametrize("kind", [pa.float32(), pa.float16()], ids=str)
def test_encoding_of_vectors(kind: pa.DataType) -> None:
    """Vectors are written without a dictionary, other columns with one, and every reader reads them."""
    vector = pa.list_(kind, 2)
    table = pa.table(
        {
            "kind.of": ["a", "b"],
            "mention_embeddings": pa.array([[[1, 2], None], []], pa.list_(vector)),
            "text_embedding": pa.array([[1, 2], None], vector),
        }
    )
    content = to_parquet(table, "zstd")
    file = pq.ParquetFile(pa.BufferReader(content))
    group = file.metadata.row_group(0)
    encodings = {group.column(n).path_in_schema: set(group.column(n).encodings) for n in range(3)}
    assert ["RLE_DICTIONARY" in found for found in encodings.values()] == [True, False, False]
    split = ["BYTE_STREAM_SPLIT" in found for found in encodings.values()]
    assert split == [False, kind == pa.float32(), kind == pa.float32()]
    assert file.read().equals(table)
    assert pl.read_parquet(content.to_pybytes())["text_embedding"].to_list()[0] == [1, 2]


def test_a_file_that_lacks_a_row_is_pruned_with_its_source(tmp_path: Path) -> None:
    """Before, `on_vanished: prune` left it in OUTPUT for good, with its document, and did not say so."""
    plan = failing_plan(tmp_path)
    (done,) = run(plan, context())
    path = tmp_path / "out" / done.path
    table = pq.ParquetFile(path).read()
    pq.write_table(table.replace_schema_metadata(without_letters(table.schema.metadata)), path)
    for letter in (tmp_path / "out/_dead_letters").iterdir():
        letter.unlink()
    (tmp_path / "in/a.parquet").rename(tmp_path / "in/b.parquet")
    run(plan_again(plan), context(), calm)
    again = replace(plan_again(plan), on_vanished="prune")
    left = find_leftovers(again, reconcile(again, "run2"))
    assert left.vanished == {done.path: (1, 0)}


def test_a_footer_that_could_not_be_read_once_is_read_again(tmp_path: Path) -> None:
    """Before, -1 rows were noted for the version: with a dead letter, every later run ended as incomplete."""
    plan = failing_plan(tmp_path)
    (done,) = run(plan, context())
    write_known(plan.output, {done.path: Held(done.version, -1, 0, "")})
    assert read_known(plan.output) == {}
    again = plan_again(plan)
    assert again.nothing_to_do
    assert reconcile(again, "run2").dead_documents == 1
