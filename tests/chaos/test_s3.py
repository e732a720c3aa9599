"""INPUT and OUTPUT in an object store that refuses, hangs up, answers late and goes away."""

import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from tests.chaos.annotation import Job
from tests.chaos.corpus import Corpus
from tests.chaos.story import disturb, run_to_the_end
from tests.chaos.verdict import assert_as_undisturbed
from tests.fault_proxy import FAULTS, FaultProxy
from tests.s3_server import free_port, leading_to, s3_environment, s3_server

SHARE = 0.15
"""Of the requests are disturbed."""
COUNTS = {"driver": 1, "actor": 1, "worker": 1}
IMPATIENT = {"AWS_MAX_ATTEMPTS": "2"}
"""So that a store that is gone is given up soon."""
SOON = 90.0


@pytest.fixture
def server(tmp_path: Path, corpus: Corpus) -> Iterator[str]:
    """A server with the corpus; the test itself talks to it without a proxy."""
    with s3_server(tmp_path / "moto.log") as url, leading_to(url):
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        for file in corpus.input.iterdir():
            client.upload_file(str(file), "bucket", f"in/{file.name}")
        yield url


@pytest.fixture
def stored(job: Job, server: str) -> Job:
    """The corpus from the store into the store; `server` is up."""
    return replace(job, input="s3://bucket/in", output="s3://bucket/out", environment=s3_environment(server))


def test_faults(stored: Job, corpus: Corpus, server: str, seed: int) -> None:
    """A run outlasts them all, or ends as incomplete and the next one outlasts them."""
    with FaultProxy(server, SHARE, seed) as proxy:
        faulty = replace(stored, environment=s3_environment(proxy.url))
        story = run_to_the_end(faulty, [], random.Random(seed))
        assert {fault for fault, _ in proxy.happened} == set(FAULTS)
        assert {"GET", "PUT", "HEAD", "LIST"} <= {operation for _, operation in proxy.happened}
    assert story.codes in ([0], [4, 0])
    assert_as_undisturbed(stored, corpus)


def test_kills_and_faults(stored: Job, corpus: Corpus, server: str, seed: int) -> None:
    """A driver, an actor and a worker die between disturbed requests."""
    with FaultProxy(server, SHARE, seed) as proxy:
        faulty = replace(stored, environment=s3_environment(proxy.url))
        disturb(faulty, COUNTS, random.Random(seed), corpus)


def test_a_store_that_is_not_there(stored: Job) -> None:
    """Refused soon, in one line for INPUT and one or two for OUTPUT."""
    nowhere = s3_environment(f"http://127.0.0.1:{free_port()}")
    started = time.monotonic()
    run = replace(stored, environment=nowhere | IMPATIENT).start()
    assert run.end() == 2
    assert time.monotonic() - started < SOON
    lines = run.said().splitlines()
    assert 2 <= len(lines) <= 3, run.said()
    assert all(re.match(r"error: .*s3://bucket/(in|out)\b", line) for line in lines), run.said()
    assert all(any(f"s3://bucket/{place}" in line for line in lines) for place in ("in", "out"))


def test_a_store_that_goes_away(stored: Job, corpus: Corpus, server: str) -> None:
    """The run ends as incomplete and says why in one line; when the store is back, the next one goes on."""
    with FaultProxy(server) as proxy:
        run = replace(stored, environment=s3_environment(proxy.url) | IMPATIENT).start()
        try:
            assert run.reaches(5), run.said()
        except BaseException:
            run.stop()
            raise
    started = time.monotonic()
    try:
        assert run.end() == 4, run.said()
        assert time.monotonic() - started < SOON
    finally:
        run.stop()
    assert not run.has_traceback(), run.said()
    assert "error: OUTPUT s3://bucket/out" in run.said()
    again = stored.start()
    assert again.end() == 0, again.said()
    assert_as_undisturbed(stored, corpus)
