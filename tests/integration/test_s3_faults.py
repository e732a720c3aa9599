"""An object store that refuses, hangs up and answers late, between every S3 client and a real server."""

from collections.abc import Iterator

import boto3
import pytest

from luke_batch.corpus.storage import Storage
from tests.fault_proxy import FAULTS, FaultProxy
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
