"""Documents that are forgotten: out of rows, letters, vectors, contexts and old versions, and kept out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luke_batch import cli
from luke_batch.corpus.compaction import compact
from luke_batch.corpus.dead_letters import letters_in
from luke_batch.corpus.forgotten import read_forgotten
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.manifest import RunManifest, write_manifest
from luke_batch.corpus.outcome import reconcile
from luke_batch.corpus.output_file import provenance
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.reader import read
from luke_batch.corpus.storage import Storage
from luke_batch.corpus.traces import Traces
from luke_batch.index.build import build
from luke_batch.index.erasure import look_through_index
from luke_batch.index.settings import IndexConfig
from luke_batch.index.sources import AnnotatedSources
from luke_batch.index.versions import IndexFolder
from tests.annotated_outputs import document, put_output
from tests.corpora import FINGERPRINT, context, job, put, run

NAMES = [f"Person{number:02d}" for number in range(20)]
TEXTS = [
    f"{name} wrote the letter of number {number} to nobody else at all that day." for number, name in enumerate(NAMES)
]
GONE = ["document-03", "document-07", "document-11", "document-12", "document-19"]
"""The fourth fails, and is in the dead letters."""


def corpus(folder: Path, texts: Sequence[str] = TEXTS) -> Plan:
    """A plan for twenty documents in fragments of few."""
    ids = [f"document-{number:02d}" for number in range(len(texts))]
    failing = [f"{text} FAIL" if number == 12 else text for number, text in enumerate(texts)]
    put(folder, "in/a.parquet", pa.table({"id": ids, "text": failing, "lang": ["en"] * len(ids)}))
    return make_plan(str(folder / "in"), Storage.at(str(folder / "out")), job(), FINGERPRINT)


def annotated(folder: Path) -> Plan:
    """An OUTPUT of them, whose run quotes a document."""
    plan = corpus(folder)
    run(plan, context())
    manifest = RunManifest(
        "run1", "2026-12-01T00:00:00+00:00", "2026-12-01T00:01:00+00:00", str(folder / "in"), plan.output.url,
        FINGERPRINT, {"input": {}}, {}, figures={"failures": [f"document-03: {TEXTS[3]}"]},
    )  # fmt: skip
    write_manifest(plan.output, manifest)
    return plan


def indexed(folder: Path) -> IndexFolder:
    """An index of OUTPUT."""
    index = IndexFolder(str(folder / "index"))
    build(AnnotatedSources.at([str(folder / "out")]), index, IndexConfig())
    return index


def forget(folder: Path, *targets: str) -> int:
    """The exit code of the command for GONE."""
    options = [part for id in GONE for part in ("--id", id)]
    return cli.run(["forget", *(str(folder / target) for target in targets), *options])


def rows_of(folder: Path) -> pa.Table:
    """What a reader sees, by id."""
    return read(str(folder / "out")).to_table().sort_by("id")


def test_nothing_is_left_of_forgotten_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In OUTPUT, dead letters, manifests and an index; all other rows are what they were."""
    annotated(tmp_path)
    index = indexed(tmp_path)
    before = rows_of(tmp_path)
    assert forget(tmp_path, "out", "index") == 0
    said = capsys.readouterr().out
    assert "erased 4 documents and 1 dead letters" in said
    assert "nothing of them is left" in said
    kept = [id not in GONE for id in before["id"].to_pylist()]
    assert rows_of(tmp_path).equals(before.filter(pa.array(kept)))
    traces = Traces.of(GONE, [TEXTS[int(id[-2:])] for id in GONE])
    for path in tmp_path.rglob("*"):
        if path.is_file() and "in" not in path.relative_to(tmp_path).parts:
            traces.look(str(path), path.read_bytes())
    assert traces.files > 10
    assert traces.found == []
    assert len(list((tmp_path / "index/versions").iterdir())) == 1
    version = index.searchable()
    surfaces = pq.read_table(version.folder / "entities")["name"].to_pylist()
    assert not {NAMES[3], NAMES[7], NAMES[11], NAMES[19]} & set(surfaces)


def test_the_search_for_traces_finds_them(tmp_path: Path) -> None:
    """In each kind of file, before anything is erased."""
    annotated(tmp_path)
    indexed(tmp_path)
    found = {}
    parts = ("out/data", "out/_luke_batch/runs", "out/_dead_letters", "index/packs", "index/versions")
    for part in parts:
        traces = Traces.of(GONE, [TEXTS[3]])
        for path in (tmp_path / part).rglob("*"):
            if path.is_file():
                traces.look(str(path), path.read_bytes())
        found[part] = bool(traces.found)
    assert found == dict.fromkeys(found, True)


def test_an_index_without_its_output_says_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is built anew from an output that still holds the documents."""
    annotated(tmp_path)
    indexed(tmp_path)
    assert forget(tmp_path, "index") == 4
    assert "something is left in" in capsys.readouterr().err


def test_nights_purge_what_was_removed(tmp_path: Path) -> None:
    """Without `forget`: a document that is gone from OUTPUT is gone from the index, old versions and packs too, after
    18 builds that have something to do. Before, its partial aggregates stayed as long as their pack was worth keeping.
    """

    def letter(number: int) -> dict[str, Any]:
        return document(f"document-{number:02d}", [(f"Person{number:02d} who wrote one long letter to nobody", "PER")])

    first = put_output(tmp_path / "out", "a.parquet", [letter(number) for number in range(40)])
    for number in range(30):
        put_output(tmp_path / "out", f"b{number}.parquet", [letter(100 + number)])
    index = indexed(tmp_path)
    first.unlink()
    put_output(tmp_path / "out", "a.parquet", [letter(number) for number in range(1, 40)], content="b" * 12)
    traces = Traces.of(["document-00"], [letter(0)["text"]])
    for night in range(18):
        put_output(tmp_path / "out", f"c{night}.parquet", [letter(200 + night)])
        indexed(tmp_path)
    look_through_index(str(index.path), traces)
    assert traces.found == []


def test_killed_in_the_middle_the_same_command_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each of its replacements."""
    annotated(tmp_path)
    before = rows_of(tmp_path)
    original = Storage.put
    for step in range(3):
        calls = iter(range(step))

        def dying(self: Storage, path: str, data: bytes, version: str | None, calls: object = calls) -> str | None:
            if next(calls, None) is None:  # type: ignore[call-overload]
                raise KeyboardInterrupt
            return original(self, path, data, version)

        with monkeypatch.context() as patch:
            patch.setattr(Storage, "put", dying)
            assert forget(tmp_path, "out") != 0
        assert reconcile(corpus(tmp_path), "run2").complete
    assert forget(tmp_path, "out") == 0
    kept = [id not in GONE for id in before["id"].to_pylist()]
    assert rows_of(tmp_path).equals(before.filter(pa.array(kept)))


def test_forgotten_documents_stay_out(tmp_path: Path) -> None:
    """While the source holds them: a night without news has nothing to do, and one over other content, a replay and a
    compaction leave them out.
    """
    annotated(tmp_path)
    assert forget(tmp_path, "out") == 0
    plan = corpus(tmp_path)
    assert plan.nothing_to_do
    outcome = reconcile(plan, "run2")
    assert (outcome.complete, outcome.dead_documents) == (True, 0)
    with Lease(plan.output, "compact", 60) as lease:
        compact(plan.output, lease, 10**9)
    assert corpus(tmp_path).nothing_to_do
    changed = corpus(tmp_path, [f"{text} And more." for text in TEXTS])
    assert changed.items
    done = run(changed, context(forgotten=read_forgotten(changed.output)))
    assert sum(entry.forgotten for entry in done) == len(GONE)
    ids = {id for path in (tmp_path / "out/data").rglob("*.parquet") for id in pq.read_table(path)["id"].to_pylist()}
    assert not ids & set(GONE)
    assert reconcile(corpus(tmp_path, [f"{text} And more." for text in TEXTS]), "run3").complete
    for path in (tmp_path / "out/data").rglob("*.parquet"):
        letters = letters_in(provenance(pq.read_schema(path)))
        assert letters is None or not set(letters["id"].to_pylist()) & set(GONE)


def test_no_document_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither `--id` nor `--ids`."""
    assert cli.run(["forget", str(tmp_path)]) == 2
    assert "no document is named" in capsys.readouterr().err
