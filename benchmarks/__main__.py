"""`python -m benchmarks [--smoke]`: time the engines, print the tables, write docs/benchmarks.md.

--smoke: the embedded model alone, on few items, and nothing is written.
"""

import argparse
import os
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

# Before anything imports torch. One thread is how a job runs: an actor for each core.
os.environ["OMP_NUM_THREADS"] = "1"

import pyarrow.parquet as pq
import torch

from benchmarks.inputs import Inputs, inputs_of_corpus, tasks_of
from benchmarks.measure import Arms, Row
from benchmarks.models import base_sized
from benchmarks.page import PAGE, put
from benchmarks.report import heading, table
from luke_batch.annotate.annotator import Annotator
from luke_batch.base import meters
from luke_batch.config import JobConfig, Precision
from luke_batch.model.engine.device import multiplies_bfloat16
from luke_batch.model.files.checkpoint import Checkpoint, resolve
from luke_batch.model.task import Task

ROUNDS = 5
_NAMES = {
    Task.TYPES: "entity typing (a mention)",
    Task.RELATIONS: "relations (a pair)",
    Task.MENTIONS: "mention embeddings (a sentence); the pass of joint heads",
}
_NER = "NER (a sentence), all spans up to 16 words"
_FILTERED = "NER (a sentence), spans: auto"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="less than two minutes; writes nothing")
    parser.add_argument("--items", type=int, default=48, help="items of a task (default: 48)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    items = 12 if arguments.smoke else arguments.items
    # NER takes so many times fewer items: each of them costs so many times more.
    inputs = inputs_of_corpus(items, items, items // 4)
    print(positions(), flush=True)
    parts = [heading(ROUNDS), timed("The embedded model (hidden size 384)", resolve("embedded"), inputs)]
    if not arguments.smoke:
        with TemporaryDirectory() as folder:
            base = base_sized(Path(folder))
            parts.append(timed("LUKE-base's size (hidden size 768), random weights", base, inputs))
        put(PAGE, "benchmarks", "\n\n".join(parts))


def positions() -> str:
    """How much the encoder reads for the default job: each token and each entity of a window is a position."""
    corpus = pq.read_table(str(files("luke_batch.embedded") / "corpus.parquet"))
    documents = corpus.take(list(range(0, corpus.num_rows, 4)))
    annotator = Annotator.from_config(JobConfig())
    meters.take()
    annotator.annotate(documents)
    counts = meters.take()
    read, windows = int(counts["positions/used"]), int(counts["windows"])
    return f"default job, {documents.num_rows} embedded documents: {read:,} positions in {windows:,} windows"


def timed(title: str, checkpoint: Checkpoint, inputs: Inputs) -> str:
    """The table of one model, also printed."""
    precisions: list[Precision] = ["float32", *(["bfloat16"] if multiplies_bfloat16() else [])]
    arms = Arms(checkpoint, precisions)
    rows: dict[str, list[Row]] = {}
    for task, name in _NAMES.items():
        if task not in tasks_of(checkpoint):
            continue
        windows = inputs.windows[task]
        rows[name] = arms.measure(task, windows, len(windows), ROUNDS)
    sentences = inputs.sentences
    rows[_NER] = arms.measure(Task.NER, sentences.all, sentences.count, ROUNDS)
    rows[_FILTERED] = arms.measure_filtered(sentences, ROUNDS)
    content = table(title, precisions[-1], rows)
    print(content, flush=True)
    return content


if __name__ == "__main__":
    main()
