"""A whole run on a local Ray, from files to files."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luke_batch import JobConfig
from luke_batch.base.errors import CheckpointError, InputError, OutputError, ResourceError
from luke_batch.corpus.storage import Storage
from luke_batch.distributed import run
from tests.corpora import put
from tests.integration.conftest import (
    Annotated,
    assert_same_annotations,
    config_for,
    documents,
    read_data,
)

pytestmark = pytest.mark.usefixtures("ray_session")


def dead_letters(output: Path) -> list[dict[str, object]]:
    """All dead letters."""
    found = [pq.read_table(path) for path in sorted(output.glob("_dead_letters/*.parquet"))]
    return pa.concat_tables(found).to_pylist()


def copy_of(annotated: Annotated, folder: Path) -> Path:
    """The annotated corpus, for a test that changes it."""
    import shutil

    return Path(shutil.copytree(annotated.output, folder / "out"))


def test_rows_equal_the_annotator(annotated: Annotated) -> None:
    """What comes out of Ray is what the Annotator makes in one process; every good document is there once."""
    assert_same_annotations(read_data(annotated.output), annotated.good, annotated.config)


def test_input_columns_are_untouched(annotated: Annotated) -> None:
    """Pass-through columns keep values, order and types; ours follow."""
    found = read_data(annotated.output)
    assert found.column_names[:4] == annotated.good.column_names
    assert found.select(annotated.good.column_names).sort_by("id") == annotated.good.sort_by("id")


def test_offsets_match_the_text(annotated: Annotated) -> None:
    """For every mention, text[start:end] is its text."""
    mentions = 0
    for row in read_data(annotated.output).to_pylist():
        for mention in row["mentions"]:
            assert row["text"][mention["start"] : mention["end"]] == mention["text"]
            mentions += 1
    assert mentions


def test_bad_files_become_one_dead_letter_each(annotated: Annotated) -> None:
    """A file that cannot be used is named with its reason; good files beside it are done."""
    letters = {letter["source"]: letter for letter in dead_letters(annotated.output)}
    assert set(letters) == {
        "b/second.parquet",
        "binary.parquet",
        "no_text.parquet",
        "truncated.parquet",
        "zero_bytes.parquet",
    }
    assert all(letters[name]["row"] is None for name in letters if name != "b/second.parquet")
    assert annotated.report.outcome.dead_files == 4


def test_bad_document_becomes_a_dead_letter(annotated: Annotated) -> None:
    """A text that is not UTF-8 is reported with id and row, and its neighbours are committed."""
    (letter,) = [entry for entry in dead_letters(annotated.output) if entry["row"] is not None]
    assert (letter["source"], letter["row"], letter["id"]) == ("b/second.parquet", 0, "second-en")
    assert "UTF-8" in str(letter["message"])


def test_file_without_rows_is_done(annotated: Annotated) -> None:
    """It has a committed file with zero rows and all columns, and no dead letter."""
    tables = [pq.read_table(path) for path in annotated.output.rglob("data/**/*.parquet")]
    (empty,) = [table for table in tables if table.num_rows == 0]
    assert {"id", "lang", "text", "year", "mentions", "text_embedding"} <= set(empty.column_names)


def test_exit_code_goes_by_the_budget(annotated: Annotated) -> None:
    """Five dead letters are more than 1% of twelve documents, and no more than a budget of five."""
    assert annotated.report.exit_code == 3
    lenient = annotated.config.model_copy(
        update={"output": annotated.config.output.model_copy(update={"error_budget": 5})}
    )
    again = run.annotate(str(annotated.input), str(annotated.output), lenient, quiet=True)
    assert (again.exit_code, again.nothing_to_do) == (0, True)


def test_second_run_does_nothing_and_says_so(annotated: Annotated, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is annotated, nothing is written, and the exit code is still that of the state of OUTPUT."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a run with nothing to do must not come here")

    monkeypatch.setattr(run, "_annotate_items", never)
    before = {path: path.stat().st_mtime_ns for path in annotated.output.rglob("*")}
    again = run.annotate(str(annotated.input), str(annotated.output), annotated.config, quiet=True)
    assert again.nothing_to_do
    assert again.tally.documents == 0
    assert again.exit_code == annotated.report.exit_code
    assert {path: path.stat().st_mtime_ns for path in annotated.output.rglob("*")} == before


def test_manifest_tells_what_happened(annotated: Annotated) -> None:
    """The run manifest names outcome, exit code, weights, versions and what was done."""
    (path,) = (annotated.output / "_luke_batch" / "runs").glob("*.json")
    manifest = json.loads(path.read_text())
    assert manifest["finished"]
    assert manifest["exit_code"] == 3
    assert manifest["outcome"]["documents"] == 12
    assert manifest["figures"]["documents"] == 11
    assert list(manifest["models"]) == [annotated.config.models["main"].path]
    assert manifest["models"].popitem()[1].keys() == {"weights", "revision", "precision"}
    assert set(manifest["versions"]) >= {"luke-batch", "ray", "torch"}


def test_what_cannot_be_committed_is_incomplete_and_the_next_run_goes_on(
    annotated: Annotated, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A fragment whose file cannot be written leaves the others alone (exit 4); the next run does only it."""
    output = copy_of(annotated, tmp_path)
    victims = sorted(output.glob("data/*.parquet"), key=lambda path: pq.read_metadata(path).num_rows)[-2:]
    for path in victims:
        path.unlink()
    victims[0].mkdir()
    stopped = run.annotate(str(annotated.input), str(output), annotated.config, quiet=True)
    assert stopped.exit_code == 4
    assert len(stopped.outcome.missing) == 1
    assert len(stopped.tally.failures) == 1
    assert victims[1].is_file()
    victims[0].rmdir()
    resumed = run.annotate(str(annotated.input), str(output), annotated.config, quiet=True)
    assert resumed.exit_code == 3
    assert resumed.outcome.complete
    assert resumed.tally.documents == pq.read_metadata(victims[0]).num_rows
    assert read_data(output).sort_by("id") == read_data(annotated.output).sort_by("id")
    assert capfd.readouterr().err == ""


def assert_refused(error: type[Exception], match: str, input: Path, output: Path, config: JobConfig) -> None:
    """The run is refused with exit code 2 and one line, and nothing is written."""
    with pytest.raises(error, match=match) as raised:
        run.annotate(str(input), str(output), config, quiet=True)
    assert getattr(raised.value, "exit_code", None) == 2
    assert "\n" not in str(raised.value)
    assert not output.exists()


def test_refused_before_anything_is_written(tmp_path: Path, checkpoint: Path) -> None:
    """Bad input, checkpoints and demands are refused as a whole: one clear line, exit 2, nothing written."""
    put(tmp_path / "in", "a.parquet", documents("a"))
    input, output = tmp_path / "in", tmp_path / "out"
    config = config_for(checkpoint)
    assert_refused(InputError, "does not exist", tmp_path / "nowhere", output, config)
    assert_refused(CheckpointError, "nothing_here", input, output, config_for(tmp_path / "nothing_here"))
    too_many = config_for(checkpoint, num_cpus=64)
    assert_refused(ResourceError, r"each actor needs 64 CPUs, .* the largest has 2 CPUs", input, output, too_many)
    crowd = config_for(checkpoint, actors=3)
    assert_refused(ResourceError, r"need 3 CPUs at the same time.*cluster has 2 CPUs", input, output, crowd)
    other_column = config.model_copy(update={"input": config.input.model_copy(update={"text_column": "body"})})
    assert_refused(InputError, "no column 'body'", input, output, other_column)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        run.annotate(str(input), str(tmp_path / "file"), config, quiet=True)


def test_an_item_that_escapes_its_stage_is_dead_and_not_the_job(tmp_path: Path, config: JobConfig) -> None:
    """What no stage foresaw fails the documents of its table, which names stage and error."""
    from luke_batch.annotate.annotator import vector_type
    from luke_batch.document.columns import ERROR
    from luke_batch.isolation.net import isolated

    def broken(_: pa.Table) -> pa.Table:
        raise MemoryError("no room")

    found = isolated(broken, documents("a"), config.columns, vector_type(config), "ner")
    assert found[ERROR].to_pylist() == [{"stage": "ner", "error_class": "MemoryError", "message": "no room"}] * 6
    assert found["mentions"].null_count == found["text_embedding"].null_count == 6
    assert Storage.at(str(tmp_path)).list() == []
