"""An entity index of a corpus that was really annotated, built on Ray."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import luke_batch
from luke_batch import Annotator, JobConfig
from luke_batch.base.errors import InputError
from luke_batch.cli import run as command
from luke_batch.distributed.index import build_index
from luke_batch.distributed.run import annotate
from luke_batch.index.build import build
from luke_batch.index.search import EntityIndex
from luke_batch.index.settings import IndexConfig
from luke_batch.index.sources import AnnotatedSources
from luke_batch.index.versions import IndexFolder
from tests.annotated_outputs import document, put_output
from tests.corpora import put
from tests.integration.conftest import LANGUAGES, Annotated


@pytest.fixture(scope="module")
def index(annotated: Annotated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BuiltIndex on Ray."""
    path = tmp_path_factory.mktemp("index") / "entities"
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("luke_batch.index.plan._PACK_FRAGMENTS", 2)  # several tasks of each kind
        patch.setattr("luke_batch.index.plan._BUCKET_BYTES", 500)
        built = build_index([str(annotated.output)], str(path), IndexConfig(), tell=told.append)
    assert built.version.manifest.bits > 0
    assert len(told) == 3
    return path


def test_ray_builds_what_one_process_does(index: Path, annotated: Annotated, tmp_path: Path) -> None:
    """The same entities, counts and vectors."""
    alone = tmp_path / "alone"
    build(AnnotatedSources.at([str(annotated.output)]), IndexFolder(str(alone)), IndexConfig())
    tables = [EntityIndex.open(str(path)).entities().read_all().sort_by("id") for path in (index, alone)]
    assert tables[0].num_rows > 10
    assert tables[0].equals(tables[1])
    mentions = sum(len(found) for found in luke_batch.read(str(annotated.output)).to_table()["mentions"].to_pylist())
    assert tables[0]["count"].to_numpy().sum() == mentions


def test_a_marked_mention_is_embedded_like_the_annotated_ones(index: Path, checkpoint: Path) -> None:
    """The query is embedded by the model that the annotated files name, and so gets the vector that the same
    mention of the same sentence has.
    """
    opened = EntityIndex.open(str(index))
    text = LANGUAGES["en"]
    start = text.index("Paris")
    heads = [{"head": "embeddings", "spans": "given", "of": "mentions"}]
    models = {"main": {"path": str(checkpoint)}}
    columns = {"id_column": None, "mentions_column": "given"}
    config = JobConfig.model_validate({"input": columns, "models": models, "heads": heads})
    table = pa.table({"text": [text], "given": [[{"start": start, "end": start + len("Paris")}]]})
    (vector,) = Annotator.from_config(config).annotate(table)["mention_embeddings"].to_pylist()[0]
    marked = f"{text[:start]}[[Paris]]{text[start + len('Paris') :]}"
    name = opened.entities().read_all()["key"][0].as_py()
    found = opened.search([name, marked], 3)
    expected = opened.nearest(np.array([vector], np.float32), 3)
    assert found.filter(found["query"].to_numpy() == 1)["key"].to_pylist() == expected["key"].to_pylist()
    assert name not in found.filter(found["query"].to_numpy() == 0)["key"].to_pylist()


def test_vectors_of_linked_entities(
    tmp_path: Path,
    ray_session: None,  # noqa: ARG001 - it runs there
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--column entity_embeddings`: mentions whose title the model does not know have no vector and are
    counted; entities are searched by name, not by text.
    """
    given = [[{"start": 0, "end": 7, "title": "Beyoncé"}, {"start": 17, "end": 28, "title": "Los Angeles"}]]
    given.append([{"start": 0, "end": 11, "title": "Los Angeles"}, {"start": 12, "end": 15, "title": "No Such Page"}])
    kind = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("title", pa.string())]))
    texts = ["Beyoncé lives in Los Angeles.", "Los Angeles was sunny."]
    documents = {"id": ["a", "b"], "text": texts, "given": pa.array(given, kind)}
    put(tmp_path / "in", "x.parquet", pa.table(documents))
    head = {"head": "embeddings", "spans": "given", "of": ["entities"]}
    config = JobConfig.model_validate({"input": {"mentions_column": "given"}, "heads": [head]})
    annotate(str(tmp_path / "in"), str(tmp_path / "out"), config, quiet=True)
    build_arguments = [str(tmp_path / "out"), str(tmp_path / "index"), "--column", "entity_embeddings"]
    assert command(["index", "build", *build_arguments]) == 0
    assert "1 mentions without a vector are left out" in capsys.readouterr().err
    opened = EntityIndex.open(str(tmp_path / "index"))
    rows = opened.entities(["key", "count", "vector"]).read_all().sort_by("key").to_pylist()
    assert [(row["key"], row["count"]) for row in rows] == [("title:Beyoncé", 1), ("title:Los Angeles", 2)]
    embedded = luke_batch.read(str(tmp_path / "out")).to_table().sort_by("id")["entity_embeddings"].to_pylist()
    mean = np.mean([embedded[0][1], embedded[1][0]], axis=0)
    assert rows[1]["vector"] == pytest.approx(mean.tolist(), abs=1e-6)
    assert command(["index", "search", str(tmp_path / "index"), "Los Angeles", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["found"][0]["name"] == "Beyoncé"
    assert command(["index", "search", str(tmp_path / "index"), "In [[Los Angeles]]."]) == 2
    assert "holds entity_embeddings" in capsys.readouterr().err


def test_the_command_line(
    index: Path, annotated: Annotated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A night without news, and searches as a table and as JSON."""
    assert command(["index", "build", str(annotated.output), str(index), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["nothing_to_do"]
    name = EntityIndex.open(str(index)).entities().read_all()["name"][0].as_py()
    queries = tmp_path / "queries"
    queries.write_text(f"{name}\n\n", encoding="utf-8")
    assert command(["index", "search", str(index), name, "--queries", str(queries), "--k", "2", "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 2
    assert answers[0] == answers[1]
    assert answers[0]["entity"]["name"]
    assert len(answers[0]["found"]) == 2
    assert command(["index", "search", str(index), name, "--label", "no such label"]) == 0
    assert "nothing found" in capsys.readouterr().out
    assert command(["index", "search", str(index)]) == 2
    assert command(["index", "build", str(annotated.output), str(index), "--case", "keep"]) == 2
    assert "was built with case 'fold', not 'keep'" in capsys.readouterr().err


def test_an_error_of_a_task_is_the_error_of_the_build(
    tmp_path: Path,
    ray_session: None,  # noqa: ARG001 - it runs there
) -> None:
    """In one line, as without Ray."""
    path = put_output(tmp_path / "out", "s", [document("a", [("Ada", "PER")])])
    whole = path.read_bytes()
    for place in range(4, len(whole) // 2, 7):  # its pages, not its footer
        whole = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
    path.write_bytes(whole)
    with pytest.raises(InputError, match="remove that file and annotate again"):
        build_index([str(tmp_path / "out")], str(tmp_path / "index"), IndexConfig())
