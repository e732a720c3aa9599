"""Hosts of a cluster are cut off, lose packets, their raylet or everything, and the object store goes away: rows and
letters are the documents, each once.

A Ray cluster of three nodes and a server that speaks S3, each on a host of its own (`network.py`). The driver runs
on the head, which works on nothing. `make chaos-hosts` runs it and prints the table of docs/nightly.md.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import boto3
import pytest

from luke_batch.corpus.storage import DATA
from tests.chaos.annotation import Job, Run
from tests.chaos.cluster import Cluster, Place
from tests.chaos.conftest import annotated_once
from tests.chaos.corpus import FILES, Corpus, fall_ill, get_well, poisoned
from tests.chaos.network import Network, why_not
from tests.chaos.processes import command_of
from tests.chaos.story import STORIES
from tests.chaos.verdict import assert_as_undisturbed, assert_replayed, files_with_letters, letters_of
from tests.s3_server import leading_to, s3_environment, s3_server

pytestmark = pytest.mark.skipif(
    "LUKE_BATCH_CHAOS_HOSTS" not in os.environ, reason="half an hour of cut cables: make chaos-hosts"
)
HEAD, STORE = "head", "store"
WORKERS = ("one", "two")
_BEGUN = 6
"""Files that are committed when it happens."""
_LOSS = 0.05
_MOST_RUNS = 8
_ACTOR_SECONDS = 60.0
_GONE_SECONDS = 120.0
_EARLY = {f"RAY_grpc_client_keepalive_{name}_ms": "20000" for name in ("time", "timeout")}
"""Else a connection that was cut for seconds is waited for up to seven minutes (docs/nightly.md)."""
_STILL_SECONDS = 300.0
"""Longer than a cut, and than Ray takes to notice it."""


@dataclass(frozen=True)
class Hosts:
    """What the stories are about."""

    network: Network
    cluster: Cluster
    job: Job
    corpus: Corpus
    stopped: list[Run] = field(default_factory=lambda: list[Run]())
    """Runs of this story that stood still."""

    def worker(self) -> int:
        """The number of a node that holds a checkpoint."""
        deadline = time.monotonic() + _ACTOR_SECONDS
        while time.monotonic() < deadline:
            for number in range(1, len(WORKERS) + 1):
                if any(command_of(each).startswith("ray::MapWorker(") for each in self.cluster.tree(number)):
                    return number
            time.sleep(0.1)
        raise AssertionError("no node has an actor")

    def is_gone(self, number: int, seconds: float) -> bool:
        """Whether the node has ended within this time."""
        deadline = time.monotonic() + seconds
        while self.cluster.raylet(number) is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def restore(self) -> None:
        """Every node is there again."""
        for number in range(1, len(WORKERS) + 1):
            if self.cluster.raylet(number) is None:
                self.cluster.lose(number)
                self.cluster.join(number)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, ray_folder: str) -> Iterator[Hosts]:
    """Three nodes and a store with the corpus."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("hosts")
    corpus = annotated_once(folder, FILES, ray_folder)
    with (
        pytest.MonkeyPatch.context() as patch,
        Network(HEAD, *WORKERS, STORE) as network,
        s3_server(folder / "moto.log", network.address(STORE), network.on(STORE)) as url,
        leading_to(url),
    ):
        own = {"RAY_TMPDIR": ray_folder, **poisoned(folder / "illness"), **s3_environment(url)}
        for name, value in own.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        for file in corpus.input.iterdir():
            client.upload_file(str(file), "bucket", f"in/{file.name}")
        places = [Place(network.address(host), network.on(host), 2 * (host != HEAD)) for host in (HEAD, *WORKERS)]
        cluster = Cluster(folder / "nodes", places)
        cluster.environment |= _EARLY
        with cluster:
            job = Job(
                "s3://bucket/in",
                "",
                corpus.model,
                folder / "logs",
                options=["--address", cluster.address],
                environment={**own, **cluster.environment},
                under=network.on(HEAD),
                cluster=cluster,
            )
            yield Hosts(network, cluster, job, corpus)


def cut_off(hosts: Hosts, _run: Run, seconds: float, is_lost: bool) -> str:
    """A worker's cable is out for so long, which Ray waits for or does not."""
    number = hosts.worker()
    hosts.network.cut(WORKERS[number - 1])
    time.sleep(seconds)
    hosts.network.mend(WORKERS[number - 1])
    assert hosts.is_gone(number, _GONE_SECONDS if is_lost else 10) == is_lost
    return "Ray let go of the node, which ended once it was back" if is_lost else "the node went on"


def cut_briefly(hosts: Hosts, run: Run) -> str:
    """20 s."""
    return cut_off(hosts, run, 20, is_lost=False)


def cut_for_long(hosts: Hosts, run: Run) -> str:
    """150 s."""
    return cut_off(hosts, run, 150, is_lost=True)


def lose_packets(hosts: Hosts, run: Run) -> str:
    """From here to the end of the run."""
    how = hosts.network.lose_packets(_LOSS)
    try:
        end(hosts, run)
    finally:
        hosts.network.lose_nothing()
    return f"by {how}, to the end of the run"


def store_away(hosts: Hosts, _run: Run) -> str:
    """Its cable is out for 30 s."""
    hosts.network.cut(STORE)
    time.sleep(30)
    hosts.network.mend(STORE)
    return "no answer to any request"


def kill_raylet(hosts: Hosts, _run: Run) -> str:
    """The process alone; its workers end by themselves."""
    number = hosts.worker()
    raylet = hosts.cluster.raylet(number)
    assert raylet is not None
    raylet.kill()
    assert hosts.is_gone(number, _GONE_SECONDS)
    return "kill -9; the node was lost"


def restart_node(hosts: Hosts, _run: Run) -> str:
    """All of a node is killed; it comes back at the same address."""
    number = hosts.worker()
    hosts.cluster.lose(number)
    hosts.cluster.join(number)
    return "kill -9 of everything; it joined again"


STORY: dict[str, Callable[[Hosts, Run], str]] = {
    "a node cut off for 20 s": cut_briefly,
    "a node cut off for 150 s": cut_for_long,
    "5% of packets lost": lose_packets,
    "the store away for 30 s": store_away,
    "a node's raylet killed": kill_raylet,
    "a node restarted": restart_node,
}


def end(hosts: Hosts, run: Run) -> int:
    """The exit code; a run that stands still is stopped, as a scheduler's time limit does it."""
    storage, committed, since = run.job.storage, -1, time.monotonic()
    while not run.ended and time.monotonic() - since < _STILL_SECONDS:
        found = len(storage.list(".parquet", under=DATA))
        if found != committed:
            committed, since = found, time.monotonic()
        time.sleep(1)
    if not run.ended:
        hosts.stopped.append(run)
        run.process.terminate()
    return run.end()


@pytest.mark.parametrize("name", STORY)
def test_hosts(hosts: Hosts, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command until it ends with 0; then a replay once all are well."""
    for variable, value in hosts.job.environment.items():
        monkeypatch.setenv(variable, value)
    fall_ill()
    hosts.restore()
    hosts.stopped.clear()
    job = replace(hosts.job, output=f"s3://bucket/{list(STORY).index(name)}")
    began = time.monotonic()
    run = job.start()
    try:
        assert run.reaches(_BEGUN), run.said()
        happened = STORY[name](hosts, run)
        codes = [end(hosts, run)]
        unread = len(files_with_letters(job.storage))
        while (codes[-1] != 0 or files_with_letters(job.storage)) and len(codes) < _MOST_RUNS:
            assert codes[-1] in (0, 2, 4), run.said()
            assert not run.has_traceback(), run.said()
            hosts.restore()
            run = job.start()
            codes.append(end(hosts, run))
        seconds = time.monotonic() - began
        assert codes[-1] == 0, run.said()
        assert_as_undisturbed(job, hosts.corpus)
        letters = len(letters_of(job.storage))
        get_well()
        assert_replayed(job, hosts.corpus)
    except BaseException:
        STORIES.append(f"| {name} | {time.monotonic() - began:.0f} | | | | FAILED |")
        raise
    finally:
        run.stop()
    rows = len(hosts.corpus.ids()) - letters
    happened += f"; exit code{'s' * (len(codes) > 1)} {', '.join(map(str, codes))}"
    if unread:
        happened += f" ({unread} files with a letter, as a part of them could not be read; the next run read it)"
    if hosts.stopped:
        happened += f" (stopped after {_STILL_SECONDS:.0f} s without a commit)"
    STORIES.append(f"| {name} | {seconds:.0f} | {happened} | {rows} | {letters} | each once |")
