"""A server that speaks S3, and an environment that leads every S3 client to it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from s3fs import S3FileSystem


@contextmanager
def s3_server(log: Path, host: str = "127.0.0.1", under: Sequence[str] = ()) -> Generator[str]:
    """A moto server on a port that is free on the loopback; its URL. Its command line begins with `under`."""
    port = free_port()
    command = [*under, str(Path(sys.executable).with_name("moto_server")), "-H", host, "-p", str(port)]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            _wait_for(host, port, server)
            yield f"http://{host}:{port}"
        finally:
            server.terminate()
            server.wait(10)


def s3_environment(url: str) -> dict[str, str]:
    """Variables that any S3 client understands."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@contextmanager
def leading_to(url: str) -> Generator[None]:
    """This process and those that it starts talk to the server at `url`.

    s3fs keeps a client for later use, which would still talk to the server of before.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment(url).items():
            patch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        yield
        S3FileSystem.clear_instance_cache()


def free_port() -> int:
    """A loopback port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(host: str, port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert server.poll() is None, "moto_server ended"
        with socket.socket() as client:
            if client.connect_ex((host, port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("moto_server does not answer")
