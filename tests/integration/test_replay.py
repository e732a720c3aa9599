"""Replay and waves on a local Ray."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import luke_batch
from luke_batch import JobConfig
from luke_batch.corpus.dead_letters import DeadLetter, letters_table, packed, show_letters
from luke_batch.corpus.output_file import Key, with_provenance
from luke_batch.corpus.storage import Storage
from luke_batch.distributed import pipeline
from luke_batch.distributed.run import annotate, replay
from tests.corpora import put
from tests.integration.conftest import assert_same_annotations, documents, with_broken_text

pytestmark = pytest.mark.usefixtures("ray_session")


def times(output: Path) -> dict[str, int]:
    """Every Parquet file of OUTPUT -> when it was written."""
    return {str(path.relative_to(output)): path.stat().st_mtime_ns for path in output.rglob("*.parquet")}


def disturb(output: Path, id: str) -> str:
    """Move a document to the dead letters, as if something had failed it that is over; its output file."""
    for path in output.rglob("data/**/*.parquet"):
        table = pq.read_table(path)
        ids = table["id"].to_pylist()
        if id in ids:
            key = Key.parse(path.name)
            assert key is not None
            row = ids.index(id)
            letter = DeadLetter(id, "a.parquet", row, "ner", "MemoryError", "no room")
            said = packed(letters_table([letter], key, "an-earlier-run"))
            rest = pa.concat_tables([table.slice(0, row), table.slice(row + 1)])
            pq.write_table(rest.replace_schema_metadata(with_provenance(table.schema.metadata, said)), path)
            show_letters(Storage.at(str(output)), key, said)
            return str(path.relative_to(output))
    raise AssertionError(id)


def test_replay_in_waves(tmp_path: Path, config: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several waves give each row once. Then: what failed by a disturbance that is over is mended, what fails
    still keeps its letter, nothing else is written, and the exit code goes by the budget.
    """
    monkeypatch.setattr(pipeline, "WAVE_ITEMS", 2)
    good, half_bad = documents("a"), documents("b")
    put(tmp_path, "in/a.parquet", good)
    put(tmp_path, "in/b.parquet", with_broken_text(half_bad))
    output = tmp_path / "out"
    first = annotate(str(tmp_path / "in"), str(output), config, quiet=True)
    assert len(first.plan.items) == 4
    expected = pa.concat_tables([good, half_bad.slice(1)])
    assert_same_annotations(luke_batch.read(str(output)).to_table(), expected, config)
    mended = disturb(output, "a-de")
    assert luke_batch.read(str(output)).count_rows() == expected.num_rows - 1

    before = times(output)
    report = replay(str(output), JobConfig.model_validate, quiet=True)
    assert report is not None
    assert (report.exit_code, report.outcome.dead_letters, report.tally.documents) == (3, 1, 5)
    assert_same_annotations(luke_batch.read(str(output)).to_table(), expected, config)
    after = times(output)
    assert {name for name in before if name not in after} == {mended.replace("data/", "_dead_letters/")}
    written = {name for name, when in after.items() if before[name] != when}
    assert mended in written
    assert len(written) == 3, "the mended fragment, and the other one with its letter"

    def lenient(settings: dict[str, object]) -> JobConfig:
        found = JobConfig.model_validate(settings)
        return found.model_copy(update={"output": found.output.model_copy(update={"error_budget": 1})})

    again = replay(str(output), lenient, quiet=True)
    assert again is not None
    assert (again.exit_code, again.outcome.dead_documents) == (0, 1)
