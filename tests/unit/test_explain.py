"""From a document back to its run, file and row: through the command, over outputs made without a model."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from luke_batch import cli
from luke_batch.corpus.compaction import compact
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.manifest import RunManifest, write_manifest
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.storage import Storage
from luke_batch.report.wording import plain
from tests.corpora import FINGERPRINT, context, documents, job, put, run

Explain = Callable[..., list[dict[str, Any]]]
_MODELS = {"some/model": {"weights": "abc", "revision": "c0ffee"}}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Ten documents in fragments of four, of which number 4 is dead; and their run's manifest."""
    table = documents(10)
    texts = [f"{text} FAIL" if number == 4 else text for number, text in enumerate(table["text"].to_pylist())]
    put(tmp_path / "in", "a/first.parquet", table.set_column(1, "text", pa.array(texts)))
    _annotate(tmp_path)
    return tmp_path


def _annotate(folder: Path, fingerprint: str = FINGERPRINT) -> Plan:
    output = Storage.at(str(folder / "out"))
    plan = make_plan(str(folder / "in"), output, job(), fingerprint)
    run(plan, context(run_id="r1", fingerprint=fingerprint, metadata={"models": json.dumps(_MODELS)}))
    settings = job().model_dump(mode="json")
    manifest = RunManifest.start("r1", str(folder / "in"), plan, settings, datetime(2026, 11, 26, tzinfo=UTC))
    write_manifest(output, replace(manifest, models=_MODELS, versions={"luke-batch": "9.9"}))
    return plan


@pytest.fixture
def explain(corpus: Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    """Explains an id as JSON."""

    def call(wanted: str) -> list[dict[str, Any]]:
        assert cli.run(["explain", str(corpus / "out"), "--id", wanted, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def test_a_row_knows_its_run_models_and_source(explain: Explain) -> None:
    """The source row counts the dead one before it; the output row does not."""
    (found,) = explain("d5")
    assert (found["state"], found["source"]) == ("committed", "a/first.parquet")
    assert (found["source_row"], found["row"]) == (5, 1)
    assert found["fingerprint"] == FINGERPRINT
    assert found["models"] == _MODELS
    assert found["schema"] == "annotations.v1"
    assert found["runs"][0]["run_id"] == "r1"
    assert found["runs"][0]["versions"] == {"luke-batch": "9.9"}
    assert found["source_state"].startswith("unchanged in ")
    assert found["counts"] == {"sentences": 1, "mentions": 1}
    assert (found["coverage"]["windows"], found["dropped"], found["notes"]) == (1, {}, [])


def test_a_place_names_a_row(explain: Explain) -> None:
    """`<path>#<row>` leads to the same document, and to its dead letter."""
    assert explain("a/first.parquet#7")[0] == {**explain("d7")[0], "id": "a/first.parquet#7"}
    assert explain("a/first.parquet#4")[0]["state"] == "dead letter"


def test_a_dead_letter_says_why(explain: Explain) -> None:
    """Stage, class and message, with the run and the source row."""
    (found,) = explain("d4")
    assert (found["state"], found["source_row"], found["row"]) == ("dead letter", 4, None)
    assert found["letter"] == {"stage": "segment", "error_class": "DocumentError", "message": "told to fail"}
    assert found["runs"][0]["run_id"] == "r1"
    assert found["models"] == _MODELS


def test_every_document_of_an_id_is_explained(corpus: Path, explain: Explain) -> None:
    """Ids may be repeated; integers are ids, too."""
    put(corpus / "in", "b.parquet", documents(3, first=7))
    numbers = pa.table({"id": pa.array([7, 8]), "text": ["One two.", "Three four."]})
    put(corpus / "in", "c.parquet", numbers)
    _annotate(corpus)
    assert [found["source"] for found in explain("d7")] == ["a/first.parquet", "b.parquet"]
    assert [(found["source"], found["source_row"]) for found in explain("8")] == [("c.parquet", 1)]


@pytest.mark.parametrize(
    ("ids", "last"),
    [
        (pa.array(["x", None, "é"], pa.string_view()), "é"),
        (pa.array(["x", None, "é"]).dictionary_encode(), "é"),
        (pa.array(["x", None, "é"], pa.large_string()), "é"),
        (pa.array([b"x", None, b"caf\xe9"], pa.binary()).view(pa.string()), "caf\ufffd"),
    ],
    ids=["string_view", "dictionary", "large_string", "not UTF-8"],
)
def test_ids_of_every_kind_are_found(corpus: Path, explain: Explain, ids: pa.Array, last: str) -> None:
    """Also null beside them, and bytes that are not UTF-8, as dead letters and reports show them."""
    put(corpus / "in", "b.parquet", documents(3).set_column(0, "id", ids))
    _annotate(corpus)
    assert explain("x")[0]["source_row"] == 0
    (found,) = explain(last)
    assert (found["source"], found["source_row"]) == ("b.parquet", 2)


def test_a_changed_or_vanished_source_is_told(corpus: Path, explain: Explain) -> None:
    """The output is of a content that INPUT no longer has."""
    put(corpus / "in", "a/first.parquet", documents(11))
    assert explain("d7")[0]["source_state"].startswith("changed since")
    (corpus / "in" / "a" / "first.parquet").unlink()
    assert explain("d7")[0]["source_state"].startswith("no longer in")
    (corpus / "in" / "a").rmdir()
    (corpus / "in").rmdir()
    assert explain("d7")[0]["source_state"].startswith("no longer in")


def test_a_merged_output_is_explained(corpus: Path, explain: Explain) -> None:
    """After a compaction rows keep their source rows."""
    output = Storage.at(str(corpus / "out"))
    with Lease(output, "c", 5) as lease:
        compact(output, lease, 10**9)
    (found,) = explain("d9")
    assert (found["source_row"], found["row"]) == (9, 8)


def test_a_missing_manifest_is_told(corpus: Path, explain: Explain) -> None:
    """What the file itself says is still there."""
    for path in (corpus / "out" / "_luke_batch" / "runs").iterdir():
        path.write_text("{}")
    (found,) = explain("d7")
    assert found["fingerprint"] == FINGERPRINT
    assert found["models"] == _MODELS
    assert found["notes"] == ["run r1 has no readable manifest: its settings and versions are not known"]
    assert "no manifest says" in found["source_state"]


def test_lines_for_a_person(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, values, and nothing that steers a terminal."""
    put(corpus / "in", "b.parquet", documents(1).set_column(0, "id", pa.array(["\x1b[2J\u202eid"])))
    _annotate(corpus)
    assert cli.run(["explain", str(corpus / "out"), "--id", "\x1b[2J\u202eid"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[2J\\u202eid" in out
    for part in (
        "b.parquet, row 0",
        "some/model, revision c0ffee, weights abc",
        "dropped     nothing",
        "r1 (",
    ):
        assert part in out


@pytest.mark.parametrize("wanted", ["nobody", "a/first.parquet#99", "a/first.parquet#-1", ""])
def test_an_unknown_id_is_refused(corpus: Path, capsys: pytest.CaptureFixture[str], wanted: str) -> None:
    """One line that says where was looked."""
    assert cli.run(["explain", str(corpus / "out"), "--id", wanted]) == 2
    assert "neither committed (columns: id) nor in the dead letters" in capsys.readouterr().err


def test_an_output_without_anything_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the way out."""
    assert cli.run(["explain", str(tmp_path), "--id", "x"]) == 2
    assert "run `luke-batch annotate INPUT OUTPUT` first" in capsys.readouterr().err


def test_plain_text_keeps_what_people_write() -> None:
    """Other scripts and emoji stay; controls are shown."""
    assert plain("Łódź 東京 القاهرة 🙂") == "Łódź 東京 القاهرة 🙂"
    assert plain("a\tb\nc\x9b", keep="\n") == "a\\x09b\nc\\x9b"
