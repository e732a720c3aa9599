"""`python -m benchmarks [--smoke]`: time the engines, print the tables, write docs/benchmarks.md.

--smoke: the embedded model alone, on few items, and nothing is written.
"""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

# Before anything imports torch. One thread is how a job runs: an actor for each core.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

from benchmarks.inputs import TASKS, evenly, windows_of_corpus
from benchmarks.measure import arms, measure
from benchmarks.models import base_sized
from benchmarks.report import heading, table, write
from luke_batch.config import Precision
from luke_batch.model.checkpoint import Checkpoint, resolve
from luke_batch.model.device import multiplies_bfloat16
from luke_batch.model.engine import Task
from luke_batch.model.windows import Window

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
ROUNDS = 5
SPANS_SHARE = 4
"""NER takes so many times fewer items: each of them costs so many times more."""


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="less than two minutes; writes nothing")
    parser.add_argument("--items", type=int, default=24, help="items of a task (default: 24)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    items = 12 if arguments.smoke else arguments.items
    windows = windows_of_corpus(documents=6 if arguments.smoke else 24)
    parts = [
        heading(ROUNDS),
        timed("The embedded model (hidden size 384)", resolve("embedded"), windows, items),
    ]
    if not arguments.smoke:
        with TemporaryDirectory() as folder:
            base = base_sized(Path(folder))
            parts.append(timed("LUKE-base's size (hidden size 768), random weights", base, windows, items))
        write(PAGE, "\n\n".join(parts))


def timed(title: str, checkpoint: Checkpoint, windows: dict[Task, list[Window]], items: int) -> str:
    """The table of one model, also printed."""
    precisions: list[Precision] = ["float32", *(["bfloat16"] if multiplies_bfloat16() else [])]
    ways = arms(checkpoint, precisions)
    rows = [
        row
        for task in TASKS
        for row in measure(
            checkpoint,
            task,
            evenly(windows[task], items // SPANS_SHARE if task is Task.SPANS else items),
            ways,
            ROUNDS,
        )
    ]
    content = table(title, rows)
    print(content, flush=True)
    return content


if __name__ == "__main__":
    main()
