"""Files of OUTPUT cannot grow any more, as on a full disk."""

import time
from contextlib import suppress

import psutil

from tests.chaos.annotation import Job, Run
from tests.chaos.conftest import Corpus
from tests.chaos.processes import command_of
from tests.chaos.verdict import assert_as_undisturbed

SMALLER_THAN_ANY_OUTPUT = 4096


def test_full_disk(job: Job, corpus: Corpus) -> None:
    """The run ends as incomplete and says why, without a part of a file; the next one goes on."""
    run = job.start()
    try:
        assert run.reaches(0), run.said()
        while not run.ended:
            limit_workers(run)
            time.sleep(0.02)
        assert run.end() == 4, run.said()
    finally:
        run.stop()
    assert "File too large" in run.said()
    assert "Traceback" not in run.said()
    assert [file for file in job.storage.list() if file.path.endswith(".part")] == []
    again = job.start()
    assert again.end() == 0, again.said()
    assert_as_undisturbed(job, corpus.annotated)


def limit_workers(run: Run) -> None:
    """No worker that reads or commits can write a file of more than a few kilobytes from now on."""
    for process in run.tree():
        if command_of(process).startswith(("ray::IDLE", "ray::MapBatches(")):
            with suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_FSIZE, (SMALLER_THAN_ANY_OUTPUT, psutil.RLIM_INFINITY))
