"""Two runs at once on one OUTPUT, each with a Ray of its own."""

import random
import time

from tests.chaos.annotation import Job
from tests.chaos.corpus import Corpus
from tests.chaos.verdict import assert_as_undisturbed

OTHERS = ((), ("--set", "output.max_rows=4"), ("--set", "output.lease_seconds=2"))
"""What the second run may have in another way."""


def test_two_runs(job: Job, corpus: Corpus, seed: int) -> None:
    """One does the work; the other is refused with the holder's name, or finds nothing left to do."""
    rng = random.Random(seed)
    runs = [job.start()]
    try:
        time.sleep(rng.choice((0, rng.uniform(0, 10))))
        runs.append(job.start(*rng.choice(OTHERS)))
        codes = [run.end() for run in runs]
        said = [run.said() for run in runs]
        assert 0 in codes, said
        for code, text in zip(codes, said, strict=True):
            assert code == 0 or (code == 2 and "is in use by run" in text), said
        assert_as_undisturbed(job, corpus)
    finally:
        for run in runs:
            run.stop()
