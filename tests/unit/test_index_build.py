"""Builds of an entity index in one process: nights equal one build, and searches see finished versions."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luke_batch.index.build import BuiltIndex, build
from luke_batch.index.search import EntityIndex
from luke_batch.index.settings import IndexConfig, Policy, SearchSettings
from luke_batch.index.sources import AnnotatedSources
from luke_batch.index.versions import IndexFolder
from tests.annotated_outputs import document, put_output
from tests.documentation import blocks

_NAMES = ("Ada", "ADA", "Łódź", "東京", "Ada Byron")
_LABELS = ("PER", "LOC")


def run(output: Path, index: Path, **settings: Any) -> BuiltIndex:
    """Build with exact search and without recall, unless told otherwise."""
    search = SearchSettings.model_validate({"variant": "exact", "recall_sample": 0, **settings})
    return build(AnnotatedSources.at([str(output)]), IndexFolder(str(index)), IndexConfig(search=search))


def rows(index: Path) -> list[dict[str, Any]]:
    """The entity table, by key, vectors as bytes."""
    table = EntityIndex.open(str(index)).entities().read_all().sort_by("key")
    vectors = table["vector"].combine_chunks()
    matrix = vectors.flatten().to_numpy().reshape(len(table), -1)
    plain = table.drop_columns(["vector"]).to_pylist()
    return [{**row, "vector": vector.tobytes()} for row, vector in zip(plain, matrix, strict=True)]


_mention = st.tuples(st.sampled_from(_NAMES), st.sampled_from(_LABELS))
_document = st.lists(_mention, max_size=4)
_fragment = st.tuples(st.lists(_document, min_size=1, max_size=3), st.integers(0, 5))
_night = st.dictionaries(st.integers(0, 5), st.one_of(st.none(), _fragment), max_size=4)
"""Source file -> its new documents with the seed of their vectors; None: it is gone."""


@settings(max_examples=12)
@given(nights=st.lists(_night, min_size=2, max_size=4), bits=st.sampled_from([1, 300]))
def test_nights_equal_one_build(
    nights: list[dict[int, Any]], bits: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After any sequence of added, changed and removed fragments, entities, counts and vectors are those of a
    build from nothing, bit for bit, and so is what is searched.
    """
    folder = tmp_path_factory.mktemp("nights")
    output, index = folder / "out", folder / "index"
    put_output(output, "always", [document("a", [("Ada", "PER")])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("luke_batch.index.plan._BUCKET_BYTES", bits)  # many buckets, whose number changes, or one
        for number, night in enumerate(nights):
            apply(output, night, number)
            run(output, index)
        run(output, folder / "scratch")
    assert rows(index) == rows(folder / "scratch")
    nightly, scratch = (EntityIndex.open(str(path)) for path in (index, folder / "scratch"))
    queries = np.eye(4, dtype=np.float32)
    # Scores alone: of entities with equal vectors any may be the third.
    found = [each.nearest(queries, 3)["score"].to_pylist() for each in (nightly, scratch)]
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert nightly.named("ada").to_pylist() == scratch.named("ada").to_pylist()


def apply(output: Path, night: dict[int, Any], number: int) -> None:
    """Replace and remove files of an output."""
    for source, fragment in night.items():
        before = list((output / "data").glob(f"{hashed(source)}-*"))
        for path in before:
            path.unlink()
        if fragment is not None:
            texts, seed = fragment
            documents = [document(f"{source}-{row}", mentions) for row, mentions in enumerate(texts)]
            content = f"{number:06x}{seed:06x}"
            put_output(output, f"s{source}", documents, content=content, seed=seed)


def hashed(source: int) -> str:
    """As the names of outputs begin."""
    from luke_batch.corpus.output_file import path_hash

    return path_hash(f"s{source}")


@settings(max_examples=6)
@given(nights=st.lists(_night, min_size=8, max_size=14), variant=st.sampled_from(["exact", "IVF_FLAT"]))
def test_long_runs_of_nights(
    nights: list[dict[int, Any]], variant: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After every night, also those that join the files of a bucket or train the cells anew, the entity table
    is that of a build from nothing, read as a whole and by id, and searches find exactly its entities.
    """
    folder = tmp_path_factory.mktemp("nights")
    output, index = folder / "out", folder / "index"
    search = {"variant": variant, "partitions": 2, "probes": 2, "recall_sample": 10}
    put_output(output, "always", [document("a", [("Ada", "PER"), ("Bo", "PER")])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("luke_batch.index.entities._MOST_LAYERS", 3)
        patch.setattr("luke_batch.index.vectors._MOST_UPDATES", 5)
        for number, night in enumerate(nights):
            apply(output, night, number)
            run(output, index, **search)
            run(output, folder / f"scratch{number}")
            expected = rows(folder / f"scratch{number}")
            assert rows(index) == expected
            opened = EntityIndex.open(str(index))
            assert opened.manifest.entities == len(expected)
            assert opened.manifest.mentions == sum(row["count"] for row in expected)
            found = opened.nearest(np.ones((1, 4), np.float32), 100)
            assert sorted(found["key"].to_pylist()) == [row["key"] for row in expected]
            for row in expected:
                assert row["id"] in opened.named(row["key"])["id"].to_pylist()


def test_a_bucket_lies_in_few_files(tmp_path: Path) -> None:
    """Nights with few changes write what changed; the files of a bucket are joined in turn, and where most
    rows of them do not count any more.
    """
    output, index = tmp_path / "out", tmp_path / "index"
    for number in range(40):
        put_output(output, f"s{number}", [document("d", [(f"Name {number}", "PER")])], seed=number)
    run(output, index)
    seen: list[int] = []
    for night in range(20):
        content = f"{night + 1:012x}"
        put_output(output, "s3", [document("d", [("Name 3", "PER")])], content=content, seed=night)
        remove(output, "s3", f"{night:012x}" if night else "aaaaaaaaaaaa")
        run(output, index)
        seen.append(len(files(index)))
    assert max(seen) <= 13
    assert seen.count(1) >= 2
    for number in range(4, 40):
        remove(output, f"s{number}", "aaaaaaaaaaaa")
    run(output, index)
    assert len(files(index)) == 1
    assert len(rows(index)) == 4


def test_cells_are_trained_anew_below_the_floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the carried index misses too many neighbours, the same build makes another."""
    from luke_batch.index import tasks
    from luke_batch.index.recall import Recall

    output, index = tmp_path / "out", tmp_path / "index"
    put_output(output, "s", [document("d", [(f"Name {n}", "PER") for n in range(40)])], dimension=8)
    run(output, index, variant="IVF_FLAT", partitions=2, recall_sample=10)
    put_output(output, "t", [document("e", [("Bo", "PER")])], dimension=8)
    found = iter([Recall(0.5, 10), Recall(0.97, 10), Recall(0.95, 10)])
    monkeypatch.setattr(tasks, "measure_recall", lambda *_: next(found))
    built = run(output, index, variant="IVF_FLAT", partitions=2, recall_sample=10)
    assert built.version.manifest.vectors["updates"] == 0
    assert built.version.manifest.recall == {"value": 0.97, "sample": 10, "depth": 10, "floor": 0.9}
    assert built.warnings == []
    put_output(output, "u", [document("f", [("Cy", "PER")])], dimension=8)
    built = run(output, index, variant="IVF_FLAT", partitions=2, recall_sample=10)
    assert built.version.manifest.vectors["updates"] == 1


def test_a_night_touches_what_changed_alone(tmp_path: Path) -> None:
    """Fragments that stay are not read again, and buckets without news keep their files."""
    output, index = tmp_path / "out", tmp_path / "index"
    for number in range(30):
        put_output(output, f"s{number}", [document("d", [(f"Name {number}", "PER")])], seed=number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("luke_batch.index.plan._BUCKET_BYTES", 100)
        run(output, index)
        before = files(index)
        for path in (output / "data").glob("*.parquet"):
            if hashed(3) not in path.name:
                path.write_bytes(path.read_bytes())  # same content, other times
        put_output(output, "s3", [document("d", [("Name 3", "PER")])], content="bbbbbbbbbbbb", seed=99)
        remove(output, "s3", "aaaaaaaaaaaa")
        built = run(output, index)
    after = files(index)
    assert built.version.manifest.changes == {
        "new": 0,
        "replaced": 1,
        "removed": 0,
        "kept": 29,
        "of_another_model": 0,
        "entities_changed": 1,
        "entities_removed": 0,
    }
    assert len(before) > 4
    assert len(after - before) == 1


def files(index: Path) -> set[tuple[str, int]]:
    """Files of the entity table, with their inodes."""
    return {(path.name, path.stat().st_ino) for path in (index / "current" / "entities").iterdir()}


def remove(output: Path, source: str, content: str) -> None:
    """Remove the output of one content of a source."""
    from luke_batch.corpus.output_file import path_hash

    for path in (output / "data").glob(f"{path_hash(source)}-*-{content}-*"):
        path.unlink()


def test_packs_of_many_nights_become_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And packs with many dead rows are written anew; the entities stay the same."""
    monkeypatch.setattr("luke_batch.index.packs._SMALL_PACKS", 3)
    output, index = tmp_path / "out", tmp_path / "index"
    most = 0
    for number in range(8):
        night = [document(f"{number}.{row}", [("Ada", "PER"), ("Ada", "PER"), (f"N{number}", "PER")]) for row in (0, 1)]
        put_output(output, f"s{number}", night, seed=number)
        run(output, index)
        most = max(most, len(list((index / "packs").iterdir())))
    assert most <= 4
    for number in range(7):
        remove(output, f"s{number}", "aaaaaaaaaaaa")
    run(output, index)
    run(output, tmp_path / "scratch")
    assert rows(index) == rows(tmp_path / "scratch")
    sizes = [sum(path.stat().st_size for path in (each / "packs").iterdir()) for each in (index, tmp_path / "scratch")]
    assert sizes[0] < 1.2 * sizes[1]


def test_a_second_build_has_nothing_to_do(tmp_path: Path) -> None:
    """The version stays, and nothing is left behind."""
    output, index = tmp_path / "out", tmp_path / "index"
    put_output(output, "s", [document("d", [("Ada", "PER")])])
    first = run(output, index)
    (index / "building").mkdir()  # as a build leaves it that is killed at its very end
    second = run(output, index)
    assert second.nothing_to_do
    assert second.version.folder == first.version.folder
    assert not (index / "building").exists()


def test_an_open_index_answers_as_before_while_and_after_a_build(tmp_path: Path) -> None:
    """A version never changes, and the one before the current stays."""
    output, index = tmp_path / "out", tmp_path / "index"
    put_output(output, "s", [document("d", [("Ada", "PER"), ("Bo", "PER")])])
    run(output, index)
    opened = EntityIndex.open(str(index))
    before = opened.search(["ada"], 5)
    put_output(output, "t", [document("e", [("Cy", "PER"), ("Ada", "PER")])], seed=3)
    run(output, index)
    assert opened.search(["ada"], 5).equals(before)
    assert EntityIndex.open(str(index)).search(["ada"], 5)["name"].to_pylist() != before["name"].to_pylist()
    put_output(output, "u", [document("f", [("Di", "PER")])], seed=4)
    run(output, index)
    assert sorted(path.name for path in (index / "versions").iterdir()) == ["000002", "000003"]


def test_an_interrupted_build_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partial aggregates and merged buckets of a build that stopped are used by the next."""
    output, index = tmp_path / "out", tmp_path / "index"
    put_output(output, "s", [document("d", [("Ada", "PER")])])
    run(output, index)
    put_output(output, "t", [document("e", [("Bo", "LOC")])])

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("luke_batch.index.tasks.Indexing.__call__", fail)
        with pytest.raises(KeyboardInterrupt):
            run(output, index)
    assert [row["name"] for row in rows(index)] == ["Ada"]
    monkeypatch.setattr("luke_batch.index.tasks.aggregate", fail)
    monkeypatch.setattr("luke_batch.index.tasks.Merge._merge_changes", fail)
    run(output, index)
    assert [row["name"] for row in rows(index)] == ["Bo", "Ada"]


def test_what_an_entity_gets(tmp_path: Path) -> None:
    """Counts, aliases, languages, contexts and the mean of the vectors."""
    output, index = tmp_path / "out", tmp_path / "index"
    first = document("a", [("Ada", "PER"), ("ADA", "PER"), ("Bo", "PER")], vectors={0: [1, 0, 0, 0], 1: [0, 1, 0, 0]})
    second = document("b", [("Ada", "PER")], lang="pl", vectors={0: [0, 0, 1, 0]})
    put_output(output, "s", [first, second])
    run(output, index)
    (ada,) = (row for row in rows(index) if row["key"] == "surface:PER:ada")
    assert np.frombuffer(ada.pop("vector"), np.float32) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert ada.pop("id") >= 0
    assert ada == {
        "key": "surface:PER:ada",
        "qid": None,
        "title": None,
        "name": "Ada",
        "label": "PER",
        "count": 3,
        "documents": 2,
        "aliases": [{"text": "Ada", "count": 2}, {"text": "ADA", "count": 1}],
        "labels": [{"label": "PER", "count": 3}],
        "languages": [{"language": "en", "count": 2}, {"language": "pl", "count": 1}],
        "contexts": [
            {"document": "a", "text": "Ada ADA Bo ", "start": 0, "end": 3},
            {"document": "b", "text": "Ada ", "start": 0, "end": 3},
        ],
    }


def test_items_and_titles_name_entities_first(tmp_path: Path) -> None:
    """A Wikidata item joins surfaces and labels, then a title does; the policy may have it otherwise."""
    output = tmp_path / "out"
    mentions = [("Ada", "PER"), ("Lovelace", "ORG"), ("Countess", "PER"), ("Lady", "LOC")]
    qids, titles = {0: "Q7259", 1: "Q7259"}, {0: "Ada Lovelace", 2: "Ada Lovelace", 3: "Ada Lovelace"}
    put_output(output, "s", [document("a", mentions, qids=qids, titles=titles)])
    run(output, tmp_path / "index")
    found = rows(tmp_path / "index")
    assert [(row["key"], row["qid"], row["count"]) for row in found] == [
        ("qid:Q7259", "Q7259", 2),
        ("title:Ada Lovelace", None, 2),
    ]
    config = IndexConfig(policy=Policy(keys=("surface",)), search=SearchSettings(recall_sample=0))
    build(AnnotatedSources.at([str(output)]), IndexFolder(str(tmp_path / "surfaces")), config)
    assert len(rows(tmp_path / "surfaces")) == 4


def test_several_outputs_in_one_index(tmp_path: Path) -> None:
    """Fragments of the same name in two outputs are two, and one output may leave again."""
    for name in ("one", "two"):
        put_output(tmp_path / name, "s", [document(name, [("Ada", "PER")])])
    both = AnnotatedSources.at([str(tmp_path / "one"), str(tmp_path / "two")])
    folder = IndexFolder(str(tmp_path / "index"))
    config = IndexConfig(search=SearchSettings(recall_sample=0))
    build(both, folder, config)
    assert [row["count"] for row in rows(tmp_path / "index")] == [2]
    built = build(AnnotatedSources.at([str(tmp_path / "one")]), folder, config)
    assert [row["count"] for row in rows(tmp_path / "index")] == [1]
    assert built.version.manifest.changes["removed"] == 1


def test_a_rewritten_file_of_the_same_name_is_another_fragment(tmp_path: Path) -> None:
    """`replay` rewrites a fragment under its name."""
    output, index = tmp_path / "out", tmp_path / "index"
    put_output(output, "s", [document("a", [("Ada", "PER")]), document("b", [])])
    run(output, index)
    put_output(output, "s", [document("a", [("Ada", "PER")]), document("b", [("Bo", "PER")])])
    built = run(output, index)
    assert built.version.manifest.changes["replaced"] == 1
    assert len(rows(index)) == 2


def test_recall_is_stored_and_a_low_one_warned_of(tmp_path: Path) -> None:
    """An inverted file with one probe misses neighbours; exact search misses none."""
    output, index = tmp_path / "out", tmp_path / "index"
    documents = [document(f"d{n}", [(f"Name {n}.{m}", "PER") for m in range(20)]) for n in range(30)]
    put_output(output, "s", documents, dimension=16)
    built = run(output, index, recall_sample=100)
    assert built.version.manifest.recall == {"value": 1.0, "sample": 100, "depth": 10, "floor": 0.9}
    assert built.warnings == []
    built = run(output, index, recall_sample=100, variant="IVF_FLAT", partitions=32, probes=1)
    recall = built.version.manifest.recall
    assert recall is not None
    assert recall["value"] < 0.9
    assert ["below 0.9" in warning for warning in built.warnings] == [True]


@pytest.mark.parametrize("variant", ["exact", "IVF_FLAT"])
def test_it_finds_what_brute_force_does(variant: str, tmp_path: Path) -> None:
    """Filters, scores and order are those of brute force, also after a night."""
    output, index = tmp_path / "out", tmp_path / "index"
    names = [[(f"Name {n}.{m}", "PER" if m % 2 else "LOC") for m in range(5)] for n in range(40)]
    documents = [document(f"d{n}", mentions, lang="en" if n % 3 else "pl") for n, mentions in enumerate(names)]
    put_output(output, "s", documents[:30], dimension=8)
    settings = {"kind": "lance", "variant": variant, "partitions": 8, "probes": 8}
    run(output, index, **settings)
    put_output(output, "t", documents[30:], dimension=8, seed=1)
    run(output, index, **settings)
    opened = EntityIndex.open(str(index))
    table = opened.entities().read_all()
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    query = vectors[:1]
    cosines = vectors @ query[0] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    polish = [{"language": "pl", "count": 1}]
    wanted = [
        (cosine, row["name"])
        for cosine, row in zip(cosines.tolist(), table.to_pylist(), strict=True)
        if row["label"] == "PER" and row["languages"] == polish
    ]
    expected = sorted(wanted, reverse=True)[:7]
    found = opened.nearest(query, 7, labels=["PER", "nothing's"], languages=["pl"])
    assert found["name"].to_pylist() == [name for _, name in expected]
    assert found["score"].to_pylist() == pytest.approx([cosine for cosine, _ in expected], abs=1e-5)
    assert opened.nearest(query, 7, least=2).num_rows == 0


def test_float16_vectors_are_indexed_as_they_are(tmp_path: Path) -> None:
    """float32 and float64 hold them exactly."""
    for name, dtype in (("half", pa.float16()), ("single", pa.float32())):
        put_output(tmp_path / name, "s", [document("a", [("Ada", "PER"), ("Bo", "PER")])], dtype=dtype)
        run(tmp_path / name, tmp_path / f"{name}.index")
    assert rows(tmp_path / "half.index") == rows(tmp_path / "single.index")


def test_an_index_may_be_moved(tmp_path: Path) -> None:
    """The link to the current version is relative."""
    put_output(tmp_path / "out", "s", [document("a", [("Ada", "PER")])])
    run(tmp_path / "out", tmp_path / "index")
    shutil.move(tmp_path / "index", tmp_path / "elsewhere")
    assert [row["name"] for row in rows(tmp_path / "elsewhere")] == ["Ada"]


def test_other_programs_open_it(tmp_path: Path) -> None:
    """DuckDB the entities and LanceDB the vectors, as the documentation says."""
    import duckdb
    import lancedb

    put_output(tmp_path / "out", "s", [document("a", [("Ada", "PER"), ("Bo", "PER")], vectors={0: [1, 0, 0, 0]})])
    run(tmp_path / "out", tmp_path / "index")
    put_output(tmp_path / "out", "t", [document("b", [("Cy", "PER")], vectors={0: [0, 1, 0, 0]})])
    run(tmp_path / "out", tmp_path / "index")
    old = [document("a", [("Ada", "PER"), ("Cy", "PER")], vectors={0: [0.5, 0, 0, 0], 1: [0, 1, 0, 0]})]
    put_output(tmp_path / "out", "s", old, content="bbbbbbbbbbbb")
    remove(tmp_path / "out", "s", "aaaaaaaaaaaa")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("luke_batch.index.entities._STALE", 9)  # files of several nights
        run(tmp_path / "out", tmp_path / "index")
    assert len(files(tmp_path / "index")) == 3
    current = tmp_path / "index" / "current"
    query = f"""
        WITH entities AS (
            FROM read_parquet('{current}/entities/*.parquet', filename = true)
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY filename DESC) = 1 AND count > 0
        )
        SELECT name, languages[1].language, vector FROM entities ORDER BY name
    """
    assert duckdb.execute(query).fetchall() == [
        ("Ada", "en", [0.5, 0.0, 0.0, 0.0]),
        ("Cy", "en", [0.0, 1.0, 0.0, 0.0]),
    ]
    table: Any = lancedb.connect(current).open_table("entities")
    nearest = table.search([1.0, 0.1, 0.0, 0.0]).distance_type("cosine").where("label = 'PER'", prefilter=True)
    assert nearest.limit(1).to_arrow()["name"].to_pylist() == ["Ada"]


def test_the_blocks_of_the_page_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With DuckDB, LanceDB and FAISS; a FAISS file that is made of the entity table finds what the index does."""
    names: list[tuple[str, str | None]] = [(f"Name {number}", "ORG") for number in range(20)]
    put_output(tmp_path / "out", "s", [document("a", [("NATO", "ORG"), *names])], dimension=8)
    run(tmp_path / "out", tmp_path / "news.index")
    put_output(tmp_path / "out", "t", [document("b", [("NATO", "ORG"), ("Ada", "ORG")])], dimension=8, seed=1)
    run(tmp_path / "out", tmp_path / "news.index")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    libraries = ("duckdb", "lancedb", "faiss")
    chosen = [
        block for block in blocks("docs/index.md") if block.code.startswith(tuple(map("import {}".format, libraries)))
    ]
    assert len(chosen) == len(libraries)
    for block in chosen:
        exec(compile(block.code, str(block), "exec"), found)
    expected = EntityIndex.open("news.index").search(["NATO"], 3)
    assert found["ids"][0, 1:].tolist() == expected["id"].to_pylist()
    assert found["cosines"][0].tolist() == pytest.approx([1.0, *expected["score"].to_pylist()], abs=1e-6)
