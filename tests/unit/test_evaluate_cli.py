"""`luke-batch evaluate` over real files: what it prints, what it leaves out, what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from luke_batch import cli
from luke_batch.corpus.plan import make_plan
from luke_batch.corpus.storage import Storage
from tests.corpora import FINGERPRINT, context, documents, job, put, run

Command = Callable[..., tuple[int, str, str]]

_TEXT = "Ada met Bob."
_SPAN = [("start", pa.int32()), ("end", pa.int32())]
_LABELLED = pa.list_(pa.struct([*_SPAN, ("label", pa.string())]))
_PAIRS = pa.list_(pa.struct([("head", pa.int32()), ("tail", pa.int32()), ("label", pa.string())]))
_ADA = {"start": 0, "end": 3, "label": "PER"}
_BOB = {"start": 8, "end": 11, "label": "PER"}
_KNOWS = {"head": 0, "tail": 1, "label": "knows"}


def _gold(entities: list[Any], relations: list[Any] | None = None, **columns: Any) -> pa.Table:
    """One row for each of `entities`."""
    count = len(entities)
    return pa.table(
        {
            "id": columns.get("ids", [f"d{number}" for number in range(count)]),
            "text": columns.get("texts", [_TEXT] * count),
            "entities": pa.array(entities, _LABELLED),
            "relations": pa.array(relations or [[]] * count, _PAIRS),
        }
    )


def _found(mentions: list[Any], relations: list[Any] | None = None, **columns: Any) -> pa.Table:
    return _gold(mentions, relations, **columns).rename_columns(["id", "text", "mentions", "relations"])


@pytest.fixture
def evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command on two tables; exit code, standard output, standard error."""

    def call(gold: pa.Table, found: pa.Table, *options: str, task: str = "ner") -> tuple[int, str, str]:
        files = [str(put(tmp_path, name, table)) for name, table in (("gold.pq", gold), ("found.pq", found))]
        code = cli.run(["evaluate", *files, "--task", task, "--resamples", "20", *options])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_json_is_one_object_with_all_figures(evaluate: Command) -> None:
    """The documented keys, fractions, and the documents that the scores rest on."""
    gold = _gold([[_ADA, _BOB], [_ADA], [_ADA, _ADA]], ids=["a", "b", "c"])
    found = _found([[_ADA], [_ADA, _BOB], None], ids=["a", "x", "c"])
    code, out, err = evaluate(gold, found, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    figures = {"precision": 1.0, "recall": 0.25, "f1": 0.4, "support": 4}
    assert (
        result.items()
        >= {
            "task": "ner",
            "micro": figures,
            "macro": figures,
            "labels": {"PER": figures},
            "accuracy": None,
            "calibration_error": None,
            "documents": {"gold": 3, "annotated": 2, "missing": 1, "failed": 1, "unknown": 1},
            "skipped": {},
            "repeated": 1,
            "texts_compared": True,
        }.items()
    )
    assert result["confidence"].keys() == {"level", "resamples", "micro", "macro", "labels", "accuracy"}


def test_the_table_shows_percentages_and_warnings(evaluate: Command) -> None:
    """For people: percent, and one line for everything that was left out."""
    gold = _gold([[_ADA, _BOB], [_ADA], [_BOB], [_BOB]], texts=[_TEXT, _TEXT, "Bob.", None])
    code, out, _ = evaluate(gold, _found([[_ADA]]).drop_columns("text"))
    assert code == 0
    assert "100.0" in out
    assert "1 documents of GOLD are not in ANNOTATED" in out
    assert "1 rows of GOLD left out: offset out of range" in out
    assert "1 rows of GOLD left out: no text" in out
    assert "ANNOTATED has no text column" in out


@pytest.mark.parametrize(
    ("entities", "relations", "reason"),
    [
        ([{**_ADA, "end": 13}], [], "offset out of range"),
        ([{**_ADA, "start": -1}], [], "offset out of range"),
        ([{**_ADA, "end": 0}], [], "offsets reversed or empty"),
        ([{**_ADA, "start": None}], [], "offset is null"),
        ([None], [], "offset is null"),
        ([_ADA], [{**_KNOWS, "tail": 1}], "relation to an entity that is not there"),
        ([_ADA, _BOB], [{**_KNOWS, "head": -1}], "relation to an entity that is not there"),
        ([_ADA, _BOB], [{**_KNOWS, "head": None}], "relation to an entity that is not there"),
        ([_ADA, _BOB], [{**_KNOWS, "label": None}], "label is null"),
    ],
)
def test_a_bad_row_of_gold_is_left_out_and_counted(
    evaluate: Command, entities: list[Any], relations: list[Any], reason: str
) -> None:
    """The row counts neither as right nor as missed; what ANNOTATED has for it does not count either."""
    gold = _gold([[_ADA, _BOB], entities], [[_KNOWS], relations])
    found = _found([[_ADA, _BOB]] * 2, [[_KNOWS]] * 2)
    code, out, _ = evaluate(gold, found, "--json", task="relations")
    result = json.loads(out)
    assert code == 0
    assert result["skipped"] == {reason: 1}
    assert result["micro"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}
    assert result["documents"] == {"gold": 1, "annotated": 1, "missing": 0, "failed": 0, "unknown": 0}


def test_gold_that_is_not_utf8_or_has_no_id_is_left_out(evaluate: Command) -> None:
    """Bytes of another encoding in one text, and a null id, cost those rows alone."""
    texts = pa.array([_TEXT.encode(), b"Ada \xff", _TEXT.encode()]).view(pa.string())
    gold = _gold([[_ADA]] * 3, ids=["a", "b", None], texts=texts)
    _, out, _ = evaluate(gold, _found([[_ADA]], ids=["a"]), "--json")
    assert json.loads(out)["skipped"] == {"text is not UTF-8": 1, "no id": 1}


_GOOD = _gold([[_ADA]])
_FOUND = _found([[_ADA]])


@pytest.mark.parametrize(
    ("gold", "found", "options", "said"),
    [
        (_GOOD.drop_columns("entities"), _FOUND, [], "GOLD …/gold.pq has no column entities"),
        (_GOOD.drop_columns("text"), _FOUND, [], "has no column text; name it with --text-column"),
        (_GOOD, _FOUND.drop_columns("mentions"), [], "ANNOTATED …/found.pq has no column mentions"),
        (_GOOD, _FOUND, ["--id-column", "key"], "has no column key; name it with --id-column"),
        (_GOOD, _FOUND, ["--task", "types"], "column 'mentions' has no member 'types'"),
        (
            _GOOD,
            _FOUND.set_column(2, "mentions", _FOUND["id"]),
            [],
            "which cannot be read as a list of structs",
        ),
        (
            _GOOD,
            _FOUND.set_column(2, "mentions", pa.array([["x"]])),
            [],
            "cannot be read as a list of structs",
        ),
        (_GOOD.slice(1), _FOUND, [], "GOLD …/gold.pq has no row"),
        (_GOOD, _FOUND.slice(1), [], "ANNOTATED …/found.pq has no row"),
        (_gold([[]]), _FOUND, [], "has nothing to score: its entities are empty in every usable row"),
        (_gold([[{**_ADA, "end": 99}]]), _FOUND, [], "has no usable row: offset out of range (1)"),
        (_gold([[_ADA]] * 2, ids=["a", "a"]), _FOUND, [], "1 ids occur more than once, 'a' first"),
        (_GOOD, _found([[_ADA]] * 2, ids=["d0", "d0"]), [], "1 ids occur more than once, 'd0' first"),
        (_GOOD, _found([[_ADA]], ids=["z"]), [], "has none of GOLD's documents"),
        (
            _GOOD,
            _found([[_ADA]], texts=["Ada left."]),
            [],
            "the text of 1 documents differs from GOLD's, 'd0'",
        ),
        (_GOOD, _found([[{**_ADA, "end": None}]]), [], "document 'd0' has a mention without start or end"),
        (
            _gold([[_ADA, _BOB]], [[_KNOWS]]),
            _found([[_ADA]], [[_KNOWS]]),
            ["--task", "relations"],
            "document 'd0' has a relation to a mention that is not there",
        ),
        (_GOOD, _FOUND, ["--labels", "PER,LOC"], "--labels: LOC occurs neither in GOLD nor in ANNOTATED"),
        (_GOOD, _FOUND, ["--task", "spelling"], "'spelling' is not one of"),
        (_GOOD, _FOUND, ["--resamples", "-1"], "--resamples"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    evaluate: Command, tmp_path: Path, gold: pa.Table, found: pa.Table, options: list[str], said: str
) -> None:
    """Exit code 2, nothing on standard output, one line that names the file and the cause."""
    code, out, err = evaluate(gold, found, *options)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said.replace("…", str(tmp_path)) in err


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "GOLD …/gold does not exist"), (b"no Parquet", "GOLD …/gold cannot be read: ")],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    """A wrong path, and a file of another kind."""
    if content is not None:
        (tmp_path / "gold").write_bytes(content)
    assert cli.run(["evaluate", str(tmp_path / "gold"), str(tmp_path), "--task", "ner"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said.replace("…", str(tmp_path)) in err


def test_gold_and_annotated_may_be_globs_of_files_of_differing_types(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Integer ids beside text, large lists, dictionaries, and a file without any mention (list<null>)."""
    put(tmp_path, "gold/a.parquet", _gold([[_ADA]], ids=[7]))
    put(tmp_path, "gold/b.parquet", _gold([[_BOB]], ids=["x"]))
    large = pa.large_list(
        pa.struct([("end", pa.int64()), ("start", pa.uint8()), ("label", pa.dictionary(pa.int8(), pa.string()))])
    )
    put(tmp_path, "found/a.parquet", pa.table({"id": ["7"], "mentions": pa.array([[_ADA]], large)}))
    put(tmp_path, "found/b.parquet", pa.table({"id": ["x"], "mentions": [[]]}))
    code = cli.run(["evaluate", f"{tmp_path}/gold/*.parquet", f"{tmp_path}/found", "--task", "ner", "--json"])
    micro = json.loads(capsys.readouterr().out)["micro"]
    assert (code, micro) == (0, {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2})


def test_the_output_of_a_job_is_read_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Committed rows only, by a column that both have; labels by --labels, once or with commas."""
    table = documents(6)
    put(tmp_path / "in", "a.parquet", table)
    output = Storage.at(str(tmp_path / "out"))
    run(make_plan(str(tmp_path / "in"), output, job(), FINGERPRINT), context())
    gold = table.append_column(
        "entities",
        pa.array(
            [[{"start": 0, "end": 5, "label": "PLACE"}, {"start": 0, "end": 6, "label": "CITY"}]] * 6,
            _LABELLED,
        ),
    )
    gold_file = put(tmp_path, "gold.parquet", gold)
    arguments = ["evaluate", str(gold_file), str(tmp_path / "out"), "--task", "ner", "--json"]
    assert cli.run(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["documents"] == {"gold": 6, "annotated": 6, "missing": 0, "failed": 0, "unknown": 0}
    assert result["labels"].keys() == {"CITY", "PLACE"}
    assert result["micro"]["support"] == 12
    assert cli.run([*arguments, "--labels", "PLACE"]) == 0
    assert json.loads(capsys.readouterr().out)["micro"]["support"] == 6
