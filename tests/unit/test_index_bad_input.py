"""What cannot be indexed or searched is refused in one line, and nothing is overwritten."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luke_batch.base.errors import InputError, LeaseError, MissingDependencyError, OutputError, UsageError
from luke_batch.cli import run as command
from luke_batch.index import packs
from luke_batch.index.build import build
from luke_batch.index.search import EntityIndex
from luke_batch.index.settings import IndexConfig, SearchSettings
from luke_batch.index.sources import AnnotatedSources
from luke_batch.index.versions import IndexFolder
from tests.annotated_outputs import document, put_output, put_table

_ADA = [document("a", [("Ada", "PER"), ("Bo", "PER")])]


def run(output: Path, index: Path | str) -> Any:
    """Build."""
    config = IndexConfig(search=SearchSettings(recall_sample=0))
    return build(AnnotatedSources.at([str(output)]), IndexFolder(str(index)), config)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An annotated output with one fragment."""
    put_output(tmp_path / "out", "s", _ADA)
    return tmp_path / "out"


@pytest.fixture
def index(tmp_path: Path, output: Path) -> Path:
    """An index of it."""
    run(output, tmp_path / "index")
    return tmp_path / "index"


def state(index: Path) -> dict[str, bytes]:
    """Every file of the current version."""
    folder = (index / "current").resolve()
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "change",
    [{"dimension": 5}, {"models": {"embedded": {"weights": "w2", "revision": None}}}, {"models": {}}],
)
def test_vectors_of_another_model_are_left_out(output: Path, index: Path, change: dict[str, Any]) -> None:
    """And counted: those of fewer bytes. Before, every build was refused for as long as old files stayed."""
    before = EntityIndex.open(str(index)).entities().read_all()
    put_output(output, "u", [*_ADA, document("more", [("Cy", "PER")])])
    put_output(output, "t", _ADA, **change)
    built = run(output, index)
    assert built.version.manifest.changes["of_another_model"] == 1
    assert any("1 files are left out: their vectors are of another model" in line for line in built.warnings)
    found = EntityIndex.open(str(index)).entities().read_all()
    assert (sum(before["count"].to_pylist()), sum(found["count"].to_pylist())) == (2, 5)
    assert run(output, index).nothing_to_do


def test_another_model_in_all_files_replaces_the_old_one(output: Path, index: Path) -> None:
    """A corpus that was annotated anew is another corpus."""
    shutil.rmtree(output)
    put_output(output, "s", _ADA, dimension=6, models={"embedded": {"weights": "w2", "revision": None}})
    built = run(output, index)
    assert built.version.manifest.dimension == 6
    assert EntityIndex.open(str(index)).search(["Ada"])["name"].to_pylist() == ["Bo"]


def test_missing_vectors_are_counted_and_left_out(tmp_path: Path) -> None:
    """So are mentions without a key, and vectors without a direction."""
    vectors = {0: None, 1: [0.0] * 4, 2: [float("nan")] * 4}
    mentions = [("Ada", "PER"), ("Zero", "PER"), ("Odd", "PER"), ("\u200b", "PER"), ("Bo", None)]
    put_output(tmp_path / "out", "s", [document("a", mentions, vectors=vectors)])
    built = run(tmp_path / "out", tmp_path / "index")
    assert built.version.manifest.skipped == {
        "without a vector": 1,
        "without a key": 1,
        "with a vector that is zero or not finite": 2,
    }
    assert EntityIndex.open(str(tmp_path / "index")).entities().read_all()["key"].to_pylist() == ["surface::bo"]
    assert len(built.warnings) == 3


@pytest.mark.parametrize("documents", [[], [document("a", [])], [document("a", [("Ada", "PER")], vectors={0: None})]])
def test_annotations_without_an_entity(tmp_path: Path, index: Path, documents: list[dict[str, Any]]) -> None:
    """No index is made of nothing, and none is emptied."""
    put_output(tmp_path / "empty", "s", documents)
    before = state(index)
    for target in (index, tmp_path / "fresh"):
        with pytest.raises(InputError, match="no mention can be indexed"):
            run(tmp_path / "empty", target)
    assert state(index) == before
    with pytest.raises(UsageError, match="has no finished version"):
        EntityIndex.open(str(tmp_path / "fresh"))


@pytest.mark.parametrize(
    ("column", "kind", "message"),
    [
        ("mention_embeddings", None, "has no column mention_embeddings; annotate with"),
        ("mentions", None, "has no column mentions"),
        ("mention_embeddings", pa.string(), "is string, not list<fixed_size_list<float>>"),
        ("mentions", pa.string(), "column mentions is string"),
    ],
)
def test_annotations_without_the_columns(
    tmp_path: Path, output: Path, column: str, kind: pa.DataType | None, message: str
) -> None:
    """The file and the cure are named."""
    (path,) = (output / "data").glob("*.parquet")
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    table = table.remove_column(place)
    if kind is not None:
        table = table.add_column(place, column, pa.nulls(len(table), kind))
    put_table(tmp_path / "odd", path.name, table)
    with pytest.raises(InputError, match=message):
        run(tmp_path / "odd", tmp_path / "index")


def test_vectors_that_do_not_go_with_the_mentions(tmp_path: Path, output: Path) -> None:
    """The row is named."""
    (path,) = (output / "data").glob("*.parquet")
    table = pq.read_table(path)
    place = table.schema.get_field_index("mention_embeddings")
    one = pa.array([[[1, 2, 3, 4]]], table.schema.field(place).type)
    put_table(tmp_path / "odd", path.name, table.set_column(place, table.schema.field(place), one))
    with pytest.raises(InputError, match="row 0 has 2 mentions and 1 vectors"):
        run(tmp_path / "odd", tmp_path / "index")


def test_documents_without_a_list_of_vectors(tmp_path: Path, output: Path) -> None:
    """Their mentions have no vector; the others are indexed."""
    (path,) = (output / "data").glob("*.parquet")
    table = pq.read_table(path)
    place = table.schema.get_field_index("mention_embeddings")
    nothing = table.set_column(place, table.schema.field(place), pa.nulls(1, table.schema.field(place).type))
    put_table(tmp_path / "odd", path.name, pa.concat_tables([nothing, table]))
    built = run(tmp_path / "odd", tmp_path / "index")
    assert built.version.manifest.skipped == {"without a vector": 2}
    assert built.version.manifest.mentions == 2


def test_nothing_annotated(tmp_path: Path) -> None:
    """No such folder, or one without a committed file, or one that is named twice."""
    with pytest.raises(InputError, match="holds no committed file; run `luke-batch annotate"):
        run(tmp_path / "nowhere", tmp_path / "index")
    with pytest.raises(InputError, match="is named twice"):
        AnnotatedSources.at([str(tmp_path), str(tmp_path)])


def test_a_damaged_annotated_file(output: Path, index: Path) -> None:
    """It is named, and the index stays."""
    before = state(index)
    (path,) = (output / "data").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"\.parquet is no complete Parquet file; remove that file"):
        run(output, index)
    assert state(index) == before


def test_a_folder_of_something_else(tmp_path: Path, output: Path) -> None:
    """Nothing is written there."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.txt").write_text("mine")
    for action in (lambda: run(output, other), lambda: EntityIndex.open(str(other))):
        with pytest.raises(OutputError, match="is a folder of something else"):
            action()
    assert [path.name for path in other.iterdir()] == ["precious.txt"]
    with pytest.raises(OutputError, match="cannot be written"):
        run(output, other / "precious.txt")


def test_an_index_of_another_schema(output: Path, index: Path) -> None:
    """Neither searched nor built upon."""
    before = state(index)
    mark = json.loads((index / "index.json").read_text())
    (index / "index.json").write_text(json.dumps({**mark, "schema": "entities.v2"}))
    for action in (lambda: run(output, index), lambda: EntityIndex.open(str(index))):
        with pytest.raises(OutputError, match=r"holds entities\.v2 and this version of luke-batch knows entities\.v1"):
            action()
    assert state(index) == before


def test_a_version_that_is_damaged(index: Path) -> None:
    """It is named."""
    (index / "current" / "manifest.json").write_text("{")
    with pytest.raises(OutputError, match="version 000001 cannot be read"):
        EntityIndex.open(str(index))


def test_partial_aggregates_that_are_damaged(output: Path, index: Path) -> None:
    """The file is named, and the version stays; one that an unfinished build has left is passed over."""
    (index / "packs" / "left.arrow").write_bytes(b"half")
    put_output(output, "t", _ADA)
    run(output, index)
    before = state(index)
    for pack in (index / "packs").iterdir():
        pack.write_bytes(pack.read_bytes()[:-100])
    packs._opened.cache_clear()
    put_output(output, "u", _ADA)
    with pytest.raises(OutputError, match=r"partial aggregates .*\.arrow cannot be read"):
        run(output, index)
    assert state(index) == before


def test_other_settings_than_those_of_the_index(output: Path, index: Path) -> None:
    """A policy is for ever; how vectors are searched is not."""
    before = state(index)
    config = IndexConfig.model_validate({"policy": {"case": "keep"}})
    with pytest.raises(UsageError, match="was built with case 'fold', not 'keep'"):
        build(AnnotatedSources.at([str(output)]), IndexFolder(str(index)), config)
    assert state(index) == before
    config = IndexConfig(search=SearchSettings(variant="IVF_FLAT", recall_sample=0))
    built = build(AnnotatedSources.at([str(output)]), IndexFolder(str(index)), config)
    assert built.version.manifest.vectors["variant"] == "IVF_FLAT"


def test_two_builds_at_once(output: Path, index: Path) -> None:
    """The second is refused."""
    with IndexFolder(str(index)).locked(), pytest.raises(LeaseError, match="another build is at work"):
        run(output, index)


def test_an_index_in_an_object_store(output: Path) -> None:
    """Refused with the cure."""
    with pytest.raises(OutputError, match="an index is a local folder"):
        run(output, "s3://bucket/index")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("Nobody", "no entity of INDEX .* is named 'Nobody'"),
        ("", "no entity of INDEX .* is named ''"),
        ("\ud800", "is named"),
        ("She met [[Ada.", "mark one mention"),
        ("[[Ada]] and [[Bo]]", "mark one mention"),
        ("[[ ]] met Bo.", "there is nothing between"),
    ],
)
def test_queries_that_cannot_be_answered(index: Path, query: str, message: str) -> None:
    """A name that nobody has, and wrong marks."""
    with pytest.raises(UsageError, match=message):
        EntityIndex.open(str(index)).search([query])


def test_other_wrong_searches(index: Path, tmp_path: Path) -> None:
    """No index, no k, vectors of another dimension, a text where the model is not known."""
    with pytest.raises(UsageError, match="does not exist; run `luke-batch index build"):
        EntityIndex.open(str(tmp_path / "nowhere"))
    opened = EntityIndex.open(str(index))
    with pytest.raises(UsageError, match="k is 0"):
        opened.search(["Ada"], 0)
    with pytest.raises(UsageError, match="the index has 4 dimensions"):
        opened.nearest(pa.array([1.0]).to_numpy()[None])
    put_output(tmp_path / "foreign", "s", _ADA, models={})
    run(tmp_path / "foreign", tmp_path / "foreign.index")
    with pytest.raises(UsageError, match="do not name the model"):
        EntityIndex.open(str(tmp_path / "foreign.index")).search(["I met [[Ada]]."])


def test_a_missing_library_is_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        EntityIndex.open(str(index))


def test_an_index_of_kind_faiss(output: Path, index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither built nor searched nor built upon; where FAISS files come from now is told in the same line."""
    before = state(index)
    assert command(["index", "build", str(output), str(index), "--kind", "faiss"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "--kind 'faiss': indexes are Lance tables; docs/index.md shows how a FAISS file is made" in told
    assert state(index) == before
    assert command(["index", "build", str(output), str(index), "--kind", "lance", "--quiet"]) == 0
    manifest = (index / "current" / "manifest.json").read_text()
    (index / "current" / "manifest.json").write_text(manifest.replace('"kind": "lance"', '"kind": "faiss"'))
    for action in (lambda: run(output, index), lambda: EntityIndex.open(str(index))):
        with pytest.raises(OutputError, match=r"is of kind faiss: .*docs/index\.md.*; build .* into an empty folder"):
            action()
