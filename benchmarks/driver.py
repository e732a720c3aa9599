"""What a run of very many fragments costs its driver: `make bench-driver`, or `python -m benchmarks.driver`.

A corpus of tiny files in hive partitions is planned, packed into work items, and run through Ray in waves:
the real `annotate`, with the real tasks that read and commit. In place of the model an actor writes
annotations that find nothing, so that what is timed is everything around the models. Printed are the seconds
and the memory of the driver on the way, which must be flat from the first wave to the last: resident, and the
private part of it, without the pages of Ray's object store that it has looked at.

`--rows` sets `output.max_rows`, and so how many of these files share a work item.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from benchmarks.planning import make_corpus
from luke_batch.annotate.annotator import vector_type
from luke_batch.config import JobConfig, OutputConfig
from luke_batch.corpus.fragments import WorkItem
from luke_batch.distributed import pipeline, wire
from luke_batch.distributed.resources import Pools
from luke_batch.distributed.results import ItemResult
from luke_batch.distributed.run import annotate
from luke_batch.distributed.tasks import Job
from luke_batch.document.columns import read_documents, write_documents
from luke_batch.isolation.streams import from_stream, to_stream

_SHARES = (0.1, 0.5, 1.0)
_STATUS = Path("/proc/self/status")


class IdleActor:
    """Stands in for an actor with a loaded checkpoint: every document is read, and nothing found in it."""

    def __init__(self, config: JobConfig, stage: int) -> None:  # noqa: ARG002 - as the real one
        self._text_column = config.input.text_column
        self._columns = config.columns
        self._vector = vector_type(config)

    def __call__(self, row: pa.Table) -> pa.Table:
        """Annotate the table inside a row."""
        table = from_stream(wire.stream_of(row))
        documents = read_documents(table, self._text_column, self._columns)
        done = write_documents(table, documents, self._columns, self._vector)
        return wire.replace_table(row, to_stream(done))


@dataclass
class Samples:
    """The driver's memory while results come in."""

    started: float = 0.0
    fragments: int = 0
    items: int = 0
    rows: list[tuple[float, int, float, int, int]] = field(
        default_factory=lambda: list[tuple[float, int, float, int, int]]()
    )
    """(share of the fragments, fragments, seconds since the first wave was started, resident and private
    bytes).
    """

    def process(self, job: Job, items: Sequence[WorkItem], pools: Pools) -> Generator[ItemResult]:
        """`pipeline.process`, watched."""
        self.items, total = len(items), sum(len(item.fragments) for item in items)
        self.started = time.perf_counter()
        self.rows.append((0.0, 0, 0.0, *memory()))
        left = list(_SHARES)
        for result in _process(job, items, pools):
            self.fragments += len(result.committed)
            while left and self.fragments >= left[0] * total:
                seconds = time.perf_counter() - self.started
                self.rows.append((left.pop(0), self.fragments, seconds, *memory()))
            yield result


_process = pipeline.process


def memory() -> tuple[int, int]:
    """Resident and private bytes of this process, from the kernel."""
    facts = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    resident, private = (int(facts[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon"))
    return resident, private


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="What a run of very many fragments costs its driver.")
    parser.add_argument("--fragments", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=60, help="rows of a work item; a file has two")
    arguments = parser.parse_args()
    samples = Samples()
    pipeline.ItemActor = IdleActor  # pyright: ignore[reportAttributeAccessIssue]
    pipeline.process = samples.process
    with tempfile.TemporaryDirectory(prefix="luke-batch-driver-") as folder:
        input, output = Path(folder) / "in", Path(folder) / "out"
        make_corpus(input, arguments.fragments)
        config = JobConfig(output=OutputConfig(max_rows=arguments.rows))
        begun = time.perf_counter()
        report = annotate(str(input), str(output), config, "local")
        whole = time.perf_counter() - begun
        if report.exit_code or report.outcome.fragments != arguments.fragments:
            sys.exit(f"exit code {report.exit_code}, failures {report.tally.failures}")
        show(samples, whole)


def show(samples: Samples, whole: float) -> None:
    """Print the table."""
    waves = -(-samples.items // pipeline.WAVE_ITEMS)
    cores = os.cpu_count()
    print(f"{samples.fragments:,} fragments in {samples.items:,} items, {waves} waves, {cores} cores\n")
    print(f"{'done':>6}{'fragments':>12}{'seconds':>10}{'driver MB':>11}{'private MB':>12}")
    for share, fragments, seconds, resident, private in samples.rows:
        sizes = f"{resident / 1e6:>11.0f}{private / 1e6:>12.0f}"
        print(f"{share:>6.0%}{fragments:>12,}{seconds:>10.0f}{sizes}")
    seconds = samples.rows[-1][2]
    rate, each = samples.fragments / seconds, 1000 * seconds / samples.items
    print(f"\n{rate:,.0f} fragments a second, {each:.0f} ms an item")
    print(f"whole run, with the start of Ray, plan and judgement: {whole:.0f} s")
    print(f"driver at its end: {memory()[0] / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
