"""An object store that refuses, hangs up and answers late, between every S3 client and a real server."""

import time
from collections.abc import Iterator

import boto3
import pytest
from fsspec.config import conf

from luke_batch.corpus.storage import Storage
from tests.fault_proxy import CUT, FAULTS, INTERNAL, SILENT, FaultProxy
from tests.s3_server import leading_to, s3_server

CONTENT = bytes(range(256)) * 400
BUCKET = "bucket"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a bucket."""
    with s3_server(tmp_path_factory.mktemp("moto") / "log") as url, leading_to(url):
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield url


@pytest.fixture
def proxy(server: str) -> Iterator[FaultProxy]:
    """Everybody talks to the server through it."""
    with FaultProxy(server) as proxy, leading_to(proxy.url):
        yield proxy


@pytest.mark.parametrize("fault", FAULTS)
def test_every_operation_survives(proxy: FaultProxy, fault: str) -> None:
    """A request that is disturbed once succeeds at last, with the right content."""
    storage = Storage.at(f"s3://{BUCKET}/{FAULTS.index(fault)}")
    proxy.plan("PUT", fault)
    storage.write_atomic("a/x", CONTENT)
    proxy.plan("GET", fault)
    assert storage.read_bytes("a/x") == CONTENT
    proxy.plan("GET", fault)
    assert storage.read_range("a/x", 10, 5000) == CONTENT[10:5000]
    proxy.plan("GET", fault)
    with storage.open("a/x") as file:
        file.seek(7)
        assert file.read() == CONTENT[7:]
    proxy.plan("LIST", fault)
    assert [(found.path, found.size) for found in storage.list()] == [("a/x", len(CONTENT))]
    proxy.plan("LIST", fault)
    assert storage.has_folder("a")
    proxy.plan("HEAD", fault)
    found = storage.stat("a/x")
    assert found is not None
    assert found.size == len(CONTENT)
    proxy.plan("HEAD", fault)
    assert storage.stat("a/none") is None
    proxy.plan("conditional PUT", fault)
    assert storage.create("once", b"mine")
    proxy.plan("conditional PUT", fault)
    assert not storage.create("once", b"another's")
    assert storage.read_bytes("once") == b"mine"
    proxy.plan("PUT", fault)
    storage.move("a/x", "b/x")
    proxy.plan("DELETE", fault)
    storage.remove("b/x")
    storage.remove("once")
    assert storage.list() == []
    operations = {"PUT": 2, "GET": 3, "LIST": 2, "HEAD": 2, "conditional PUT": 2, "DELETE": 1}
    assert proxy.happened == {(fault, operation): count for operation, count in operations.items()}


def test_silence(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that stays silent for longer than the read time-out, which can be set, is given up; the
    request is tried again.
    """
    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"read_timeout": 1}})
    storage = Storage.at(f"s3://{BUCKET}/silent")
    proxy.plan("PUT", SILENT)
    storage.write_atomic("x", CONTENT)
    proxy.plan("GET", SILENT)
    started = time.monotonic()
    assert storage.read_bytes("x") == CONTENT
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("fault", [INTERNAL, CUT])
def test_large_objects(proxy: FaultProxy, fault: str) -> None:
    """What is uploaded in parts is whole in the end, or not there at all."""
    content = CONTENT * 1024
    storage = Storage.at(f"s3://{BUCKET}/large")
    proxy.plan("multipart", fault, fault, fault)
    storage.write_atomic("x", content)
    assert proxy.operations["multipart"] >= 4
    proxy.plan("GET", fault, fault)
    assert storage.read_bytes("x") == content
    proxy.plan("multipart", *[INTERNAL] * 50)
    with pytest.raises(OSError, match="by the proxy"):
        storage.write_atomic("y", content)
    assert storage.stat("y") is None
