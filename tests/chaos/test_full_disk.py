"""Files of OUTPUT cannot grow any more, as on a full disk."""

import random
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tests.chaos.annotation import Job, Run
from tests.chaos.corpus import Corpus
from tests.chaos.processes import command_of
from tests.chaos.verdict import assert_as_undisturbed
from tests.corpora import put

LIMIT = 32 * 2**10
"""Bytes: more than Ray's logs have, and less than any output file here."""
PAYLOAD = 20 * 2**10
"""Bytes that cannot be compressed, in each document."""


def test_full_disk(job: Job, corpus: Corpus, tmp_path: Path) -> None:
    """The run ends as incomplete and says why, without a part of a file; the next one goes on."""
    for file in corpus.input.iterdir():
        put(tmp_path / "in", file.name, with_payload(pq.read_table(file)))
    job = replace(job, input=str(tmp_path / "in"))
    run = job.start()
    try:
        assert run.reaches(0), run.said()
        while not run.ended:
            limit_workers(run)
            time.sleep(0.02)
        assert run.end() == 4, run.said()
    finally:
        run.stop()
    assert "failed: OSError: [Errno 27] File too large" in run.said()
    assert not run.has_traceback(), run.said()
    # Letters are small, so their writers may be at work when the run ends; of an output file nothing is left.
    assert [file for file in job.storage.list(".part") if file.size >= PAYLOAD] == []
    again = job.start()
    assert again.end() == 0, again.said()
    assert_as_undisturbed(job, corpus)


def with_payload(table: pa.Table) -> pa.Table:
    """A column that makes each document large, and passes through."""
    rng = random.Random(0)
    return table.append_column("payload", [[rng.randbytes(PAYLOAD) for _ in range(table.num_rows)]])


def limit_workers(run: Run) -> None:
    """No worker that reads or commits can write a file of more than LIMIT bytes from now on."""
    for process in run.tree():
        if command_of(process).startswith(("ray::IDLE", "ray::MapBatches(")):
            with suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_FSIZE, (LIMIT, psutil.RLIM_INFINITY))
