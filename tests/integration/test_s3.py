"""Plan, read, commit and read back on an object store that speaks S3."""

import json
import pickle
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luke_batch import cli
from luke_batch.base.errors import InputError, LeaseError
from luke_batch.corpus.access import probe_output
from luke_batch.corpus.footers import write_known_footers
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.manifest import RunManifest, new_run_id, read_manifests, write_manifest
from luke_batch.corpus.outcome import reconcile, report_bad_files
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.reader import read
from luke_batch.corpus.sources import list_sources
from luke_batch.corpus.storage import Storage
from luke_batch.index.build import build
from luke_batch.index.search import EntityIndex
from luke_batch.index.settings import IndexConfig
from luke_batch.index.sources import AnnotatedSources
from luke_batch.index.versions import IndexFolder
from luke_batch.report.explanation import explain
from luke_batch.report.figures import collect
from tests.annotated_outputs import document, put_output
from tests.corpora import FINGERPRINT, context, documents, job, run
from tests.fault_proxy import FaultProxy
from tests.reported import report_run, sentences
from tests.s3_server import leading_to, s3_server
from tests.unit.test_outcome import NOW
from tests.unit.test_plan import sweep


@pytest.fixture(scope="module", autouse=True)
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A moto server on a free loopback port, and an environment that leads every S3 client to it."""
    with s3_server(tmp_path_factory.mktemp("moto") / "log") as url, leading_to(url):
        yield url


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """A fresh bucket."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    boto3.client("s3").create_bucket(Bucket=name)
    return name


def test_two_writers_of_one_object(bucket: str) -> None:
    """The conditions of S3: the second one changes nothing, whichever file it began with."""
    storage = Storage.at(f"s3://{bucket}/x")
    first = storage.put("a", b"1", None)
    assert first is not None
    assert storage.put("a", b"2", None) is None
    second = storage.put("a", b"22", first)
    assert second is not None
    assert storage.put("a", b"333", first) is None
    assert storage.put("a", b"22", first) == second  # its own, whose answer was lost
    assert storage.read_bytes("a") == b"22"


def test_removal_is_one_request_for_a_thousand(bucket: str, endpoint: str) -> None:
    """Before, 1,200 files were 1,200 requests."""
    names = [f"data/x=[{number % 3}]*/{number}.parquet" for number in range(1200)]
    client = boto3.client("s3")
    for name in names:
        client.put_object(Bucket=bucket, Key=f"out/{name}", Body=b"1")
    with FaultProxy(endpoint) as proxy, leading_to(proxy.url):
        assert Storage.at(f"s3://{bucket}/out").remove_all(names) == {}
        assert sum(proxy.operations.values()) <= 4
    with leading_to(endpoint):
        assert Storage.at(f"s3://{bucket}/out").list() == []


def put(url: str, name: str, table: pa.Table) -> None:
    """Write `table` as url/name."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    Storage.at(url).write_atomic(name, sink.getvalue())


def plan_of(bucket: str, fingerprint: str = FINGERPRINT) -> Plan:
    """The plan of the bucket's corpus."""
    return make_plan(f"s3://{bucket}/in", Storage.at(f"s3://{bucket}/out"), job(), fingerprint)


def test_whole_way(bucket: str) -> None:
    """Everything that works on local folders works on S3, and a second plan has nothing to do."""
    put(f"s3://{bucket}/in", "date=1/a.parquet", documents(10))
    put(
        f"s3://{bucket}/in",
        "date=2/b.parquet",
        documents(3, first=10).set_column(1, "text", [["FAIL", "x", "y"]]),
    )
    put(f"s3://{bucket}/in", "_hidden/b.parquet", documents(3))
    Storage.at(f"s3://{bucket}/in").write_atomic("zero.parquet", b"")
    plan = plan_of(bucket)
    assert plan.tallies["new"].rows == 13
    assert [bad.path for bad in plan.bad] == ["zero.parquet"]
    report_bad_files(plan, "run1")
    done = run(plan, context())
    assert sum(each.rows for each in done) == 12
    outcome = reconcile(plan, "run1")
    assert (outcome.complete, outcome.dead_documents, outcome.dead_files) == (True, 1, 1)
    assert sweep(plan) == []
    again = plan_of(bucket)
    assert again.nothing_to_do
    assert again.tallies["done"].rows == 13
    table = read(f"s3://{bucket}/out").to_table()
    assert sorted(table["id"].to_pylist()) == sorted(f"d{n}" for n in range(13) if n != 10)
    assert set(table["date"].to_pylist()) == {"1", "2"}


def test_changed_and_stale(bucket: str) -> None:
    """A replaced object is noticed, and superseded outputs are removed after their replacement."""
    put(f"s3://{bucket}/in", "a.parquet", documents(4))
    run(plan_of(bucket), context())
    put(f"s3://{bucket}/in", "a.parquet", documents(5, first=4))
    plan = plan_of(bucket)
    assert plan.tallies["changed"].rows == 5
    run(plan, context())
    assert len(sweep(plan)) == 1
    assert plan_of(bucket, "another").tallies["stale"].rows == 5
    assert read(f"s3://{bucket}/out").count_rows() == 5


@pytest.mark.parametrize("input", ["in/a.parquet", "in/*.parquet", "in/", "in"])
def test_kinds_of_input(bucket: str, input: str) -> None:
    """A file, a glob and a folder of objects."""
    put(f"s3://{bucket}", "in/a.parquet", documents(1))
    assert [file.path for file in list_sources(f"s3://{bucket}/{input}").files] == ["a.parquet"]


def test_what_is_not_there(bucket: str) -> None:
    """A missing bucket or prefix is an input error with the name."""
    for url in (f"s3://{bucket}/in", "s3://no-such-bucket-at-all/in"):
        with pytest.raises(InputError, match=url):
            list_sources(url)


def test_no_credentials_leave_the_process(bucket: str) -> None:
    """Neither a pickled storage nor a manifest holds a credential."""
    put(f"s3://{bucket}/in", "a.parquet", documents(1))
    plan = plan_of(bucket)
    assert b"very-secret" not in pickle.dumps(plan)
    manifest = RunManifest.start(new_run_id(NOW), f"s3://{bucket}/in", plan, {}, NOW)
    write_manifest(plan.output, manifest)
    assert "very-secret" not in json.dumps(read_manifests(plan.output)[0].config)
    assert [found.run_id for found in read_manifests(plan.output)] == [manifest.run_id]


def test_one_lease(bucket: str) -> None:
    """A conditional PUT decides who gets the lease; it is renewed, released and taken again."""
    output = Storage.at(f"s3://{bucket}/out")
    assert output.create("once", b"1")
    assert not output.create("once", b"2")
    assert output.read_bytes("once") == b"1"
    with Lease(output, "one", 60) as first, Lease(output, "two", 60) as second:
        first.take()
        first.check()
        with pytest.raises(LeaseError, match="in use by run one"):
            second.take()
        with pytest.raises(LeaseError, match="in use by run one"):
            Lease(output, "three", 60).__enter__()
    with Lease(output, "two", 60) as second:
        second.take()
        assert second.number == 2


def test_store_without_conditional_writes(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the store refuses them, the lease is written plainly, and still respected."""
    output = Storage.at(f"s3://{bucket}/out")
    plain = output._filesystem.pipe_file

    def pipe_file(path: str, data: bytes, mode: str = "overwrite") -> None:
        if mode == "create":
            raise OSError("NotImplemented: If-None-Match")
        plain(path, data)

    monkeypatch.setattr(output._filesystem, "pipe_file", pipe_file)
    with Lease(output, "one", 60) as first:
        first.take()
        assert not output.create("_luke_batch/lease/00000001.json", b"")
        with pytest.raises(LeaseError):
            Lease(output, "two", 60).__enter__()


def test_foreign_objects_are_moved(bucket: str) -> None:
    """As on a local disk, they leave OUTPUT/data and are kept."""
    put(f"s3://{bucket}/in", "a.parquet", documents(2))
    put(f"s3://{bucket}/out", "data/theirs.parquet", documents(1))
    plan = plan_of(bucket)
    run(plan, context())
    assert sweep(plan) == []
    storage = Storage.at(f"s3://{bucket}/out")
    assert storage.stat("_foreign/theirs.parquet") is not None
    (ours,) = storage.list(".parquet", under="data")
    assert ours.path == f"data/{plan.items[0].fragments[0].key(plan.fingerprint).name}"


def test_known_footers(bucket: str) -> None:
    """An object whose ETag is known is not opened."""
    put(f"s3://{bucket}/in", "a.parquet", documents(2))
    run(plan_of(bucket), context())
    time.sleep(3.1)
    plan = plan_of(bucket)
    write_known_footers(plan.output, plan.known)
    assert (plan.footers_read, plan_of(bucket).footers_read) == (1, 0)
    put(f"s3://{bucket}/in", "a.parquet", documents(2, first=5))
    assert plan_of(bucket).tallies["changed"].rows == 2


def test_report_and_explain_read_a_store(bucket: str, tmp_path: Path) -> None:
    """The same figures, documents and explanation as of a local copy."""
    report_run(tmp_path, sentences(5))
    local, remote = Storage.at(str(tmp_path / "out")), Storage.at(f"s3://{bucket}/out")
    for file in local.list():
        remote.write_atomic(file.path, local.read_bytes(file.path))
    ours, theirs = collect(remote), collect(local)
    assert replace(ours, output="") == replace(theirs, output="")
    assert len(ours.samples) == 5
    assert explain(remote, "d3") == explain(local, "d3")
    assert explain(remote, "part-0.parquet#3")[0].source_row == 3


def test_a_store_that_refuses_is_one_problem_of_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bucket: str
) -> None:
    """No such bucket for OUTPUT, none for INPUT, no such model: each in its line. A probe leaves nothing."""
    arguments = [
        "s3://no-such-input/in",
        "s3://no-such-output/out",
        "--set",
        f"models.main.path={tmp_path}/no",
    ]
    assert cli.run(["annotate", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    for said in (
        "no such model folder",
        "INPUT s3://no-such-input/in",
        "OUTPUT s3://no-such-output/out cannot be",
    ):
        assert sum(said in line for line in lines) == 1, lines
    output = Storage.at(f"s3://{bucket}/out")
    probe_output(output)
    assert output.list() == []


def test_an_index_of_annotations_in_a_store(bucket: str, tmp_path: Path) -> None:
    """Two nights give the entities of the same files on a disk; so does a source that was pickled."""
    store = Storage.at(f"s3://{bucket}/out")
    for night, name in enumerate(("Ada", "Bo")):
        path = put_output(tmp_path / "out", f"s{night}", [document("d", [(name, "PER"), ("Cy", "LOC")])], seed=night)
        store.write_atomic(f"data/{path.name}", path.read_bytes())
        # In this process: workers of a Ray that other tests started know nothing of the store.
        build(AnnotatedSources.at([f"s3://{bucket}/out"]), IndexFolder(str(tmp_path / "remote")), IndexConfig())
    sources = pickle.loads(pickle.dumps(AnnotatedSources.at([f"s3://{bucket}/out"])))
    build(sources, IndexFolder(str(tmp_path / "pickled")), IndexConfig())
    build(AnnotatedSources.at([str(tmp_path / "out")]), IndexFolder(str(tmp_path / "local")), IndexConfig())
    tables = [
        EntityIndex.open(str(tmp_path / name)).entities().read_all().sort_by("id")
        for name in ("remote", "pickled", "local")
    ]
    assert sorted(tables[0]["name"].to_pylist()) == ["Ada", "Bo", "Cy"]
    assert tables[0].equals(tables[2])
    assert tables[1].equals(tables[2])


def test_annotations_that_are_not_in_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line and exit code 2, and no index."""
    assert cli.run(["index", "build", "s3://no-such-bucket-at-all/out", str(tmp_path / "index")]) == 2
    said = capsys.readouterr().err
    assert "s3://no-such-bucket-at-all/out" in said
    assert "Traceback" not in said
