"""Processes of a run are killed and files of OUTPUT damaged at random moments; the same command mends it."""

import random

from tests.chaos.annotation import Job
from tests.chaos.corpus import Corpus
from tests.chaos.story import disturb

COUNTS = {"driver": 3, "SIGTERM": 1, "actor": 4, "worker": 3, "child": 3, "torn file": 1, "foreign file": 1}


def test_local_ray(job: Job, corpus: Corpus, seed: int) -> None:
    """Drivers, actors, workers and their children die, an output is torn, a foreign file appears."""
    disturb(job, COUNTS, random.Random(seed), corpus)
