"""What the benchmarks count, and where they write."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import END, START, write
from benchmarks.work import useful_flops
from luke_batch.model.checkpoint import resolve
from luke_batch.model.engine import Task
from luke_batch.model.windows import Window
from tests.checkpoints import Recipe


@pytest.mark.parametrize(
    ("task", "aware", "read"),
    [(Task.SPANS, True, 12), (Task.SPANS, False, 12), (Task.ENTITY, True, 2), (Task.TEXT, True, 10)],
)
def test_useful_operations(
    checkpoint_folder: Callable[[Recipe], Path], task: Task, aware: bool, read: int
) -> None:
    """Two layers over 10 words and 2 entities, hidden size 32 and inner size 64: counted by hand."""
    checkpoint = resolve(str(checkpoint_folder(Recipe(entity_aware=aware))))
    window = Window(np.zeros(10, np.int32), np.zeros(2, np.int32), np.zeros((2, 2), np.int32))
    queries = 2 if aware else 1

    def layer(rows: int) -> int:
        keys_and_values = 12 * 2 * 32 * 32
        scores_and_sums = rows * 12 * 32 * 2
        return keys_and_values + rows * (queries + 1) * 32 * 32 + scores_and_sums + rows * 2 * 32 * 64

    assert useful_flops(checkpoint, task, window) == 2 * (layer(12) + layer(read))


def test_tables_replace_those_of_the_last_run(tmp_path: Path) -> None:
    """What people wrote around the markers stays."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{START}\n\nold\n\n{END}\nafter\n")
    write(page, "new")
    write(page, "newer")
    assert page.read_text() == f"before\n{START}\n\nnewer\n\n{END}\nafter\n"
