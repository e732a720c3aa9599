"""What the benchmarks count, and where they write."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.job import repeated, rounded
from benchmarks.job_runs import Run
from benchmarks.page import put
from benchmarks.work import useful_flops
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Task
from tests.checkpoints import Recipe


@pytest.mark.parametrize(
    ("task", "aware", "read"),
    [(Task.NER, True, 12), (Task.NER, False, 12), (Task.TYPES, True, 2), (Task.TEXT, True, 10)],
)
def test_useful_operations(checkpoint_folder: Callable[[Recipe], Path], task: Task, aware: bool, read: int) -> None:
    """Two layers over 10 words and 2 entities, hidden size 32 and inner size 64: counted by hand."""
    checkpoint = resolve(str(checkpoint_folder(Recipe(entity_aware=aware))))
    window = Window(np.zeros(10, np.int32), np.zeros(2, np.int32), np.zeros((2, 2), np.int32))
    queries = 2 if aware else 1

    def layer(rows: int) -> int:
        keys_and_values = 12 * 2 * 32 * 32
        scores_and_sums = rows * 12 * 32 * 2
        return keys_and_values + rows * (queries + 1) * 32 * 32 + scores_and_sums + rows * 2 * 32 * 64

    assert useful_flops(checkpoint, task, window) == 2 * (layer(12) + layer(read))


def test_each_command_has_a_place_of_its_own(tmp_path: Path) -> None:
    """One table is replaced; the other stays, and what people wrote."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- job: start -->\n<!-- job: end -->\n<!-- memory: start -->old<!-- memory: end -->\n")
    put(page, "job", "new")
    put(page, "job", "newer")
    assert page.read_text() == (
        "before\n<!-- job: start -->\n\nnewer\n\n<!-- job: end -->\n<!-- memory: start -->old<!-- memory: end -->\n"
    )


def test_a_repeated_corpus_has_each_document_as_often() -> None:
    """Neighbours are mixed, and no id comes twice."""
    table = pa.table({"id": [f"d{number}" for number in range(10)], "text": ["text"] * 10})
    ids = repeated(table, 25)["id"].to_pylist()
    assert len(set(ids)) == 25
    counts = [sum(id.startswith(f"d{number}-") for id in ids) for number in range(10)]
    assert sorted(set(counts)) == [2, 3]
    assert ids[1] != "d1-1"
    assert [rounded(documents, 8) for documents in (1, 16, 17)] == [16, 16, 32]


def test_two_halves_are_one_run_with_one_start() -> None:
    """Each half takes 5 s for its start, the first 20 s and the second 30 s for its documents."""
    first = Run(documents=40, mentions=3, seconds=25, steady=2, cpu=24, peak=7)
    second = Run(documents=30, mentions=4, seconds=35, steady=1, cpu=34, peak=5)
    whole = first.and_then(second)
    assert (whole.documents, whole.mentions, whole.peak) == (70, 7, 7)
    assert whole.seconds == pytest.approx(55)
    assert whole.around == pytest.approx(5)
    assert whole.cpu == pytest.approx(53)
