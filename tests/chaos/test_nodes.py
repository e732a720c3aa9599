"""A cluster loses nodes, drivers and workers while a run is at work."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.annotation import Job
from tests.chaos.cluster import Cluster
from tests.chaos.corpus import Corpus
from tests.chaos.story import disturb

COUNTS = {"node": 2, "driver": 1, "worker": 1}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes."""
    with Cluster(tmp_path / "nodes") as cluster:
        yield cluster


def test_cluster(job: Job, corpus: Corpus, cluster: Cluster, seed: int) -> None:
    """Ray outlives the drivers here, so that orphans of a killed one may be at work beside the next."""
    on_cluster = replace(
        job,
        cluster=cluster,
        environment=cluster.environment,
        options=["--address", cluster.address, "--set", "output.shared=true"],
    )
    disturb(on_cluster, COUNTS, random.Random(seed), corpus)
