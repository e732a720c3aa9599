"""An HTTP proxy in front of an S3 server that disturbs a share of the requests, for tests on loopback.

Which request is disturbed, and how, depends on the seed, on its method and path and on how often the same one
came before, not on the order of requests of different kinds: so a seed tells nearly the same story again.
"""

import asyncio
import io
import random
import socket
import struct
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

SLOW_DOWN, INTERNAL, THROTTLED = "503 SlowDown", "500 InternalError", "429 TooManyRequests"
RESET = "reset before the request is carried out"
LOST = "answer lost after the request was carried out"
CUT = "connection closed in the middle of the answer"
LATE = "late answer"
SLOW = "slow answer, piece by piece"
SILENT = "no answer for a minute"
"""Only where it is planned: it costs the client its read time-out."""
FAULTS = (SLOW_DOWN, INTERNAL, THROTTLED, RESET, LOST, CUT, LATE, SLOW)

_REFUSALS = {
    SLOW_DOWN: (503, "SlowDown"),
    INTERNAL: (500, "InternalError"),
    THROTTLED: (429, "TooManyRequests"),
}
_CONNECTION_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect"})
_LATE_SECONDS = 0.5
_SILENT_SECONDS = 60
_CLOSING_SECONDS = 0.1
"""In which connections that were reset are closed."""
_PIECES = 5
_LARGEST = 2**30
_RST = struct.pack("ii", 1, 0)
"""Linger not at all: a closed connection is reset."""


class FaultProxy:
    """A context manager; its thread serves until it is left."""

    def __init__(self, upstream: str, share: float = 0.0, seed: int = 0, faults: Sequence[str] = FAULTS) -> None:
        """Disturb `share` of the requests to the server at `upstream` by `faults`."""
        self.share = share
        self.happened: Counter[tuple[str, str]] = Counter()
        """(fault, operation) of the disturbed requests."""
        self.operations: Counter[str] = Counter()
        """Requests by operation."""
        self._upstream, self._seed, self._faults = upstream, seed, tuple(faults)
        self._planned: defaultdict[str, deque[str]] = defaultdict(deque)
        self._times: Counter[str] = Counter()
        self._ready, self._port = threading.Event(), 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fault proxy")
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._port}"

    def plan(self, operation: str, *faults: str) -> None:
        """Disturb the next requests of `operation` (see `operation_of`) by these faults, one each."""
        self._planned[operation].extend(faults)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=_LARGEST)
        async with aiohttp.ClientSession(auto_decompress=False) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._handle(request, session)

            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._port = runner.addresses[0][1]
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()
            await asyncio.sleep(_CLOSING_SECONDS)

    async def _handle(self, request: web.Request, session: aiohttp.ClientSession) -> web.StreamResponse:
        body = await request.read()
        operation = operation_of(request)
        self.operations[operation] += 1
        fault = self._choose(request, operation)
        if fault is not None:
            self.happened[fault, operation] += 1
        if fault in _REFUSALS:
            return _refusal(*_REFUSALS[fault])
        if fault == RESET:
            return _closed(request)
        if fault in (LATE, SILENT):
            await asyncio.sleep(_LATE_SECONDS if fault == LATE else _SILENT_SECONDS)
        headers = {name: value for name, value in request.headers.items() if _travels(name)}
        target = URL(self._upstream + request.raw_path, encoded=True)
        async with session.request(
            request.method, target, headers=headers, data=io.BytesIO(body), allow_redirects=False
        ) as answer:
            content = await answer.read()
        if fault == LOST:
            return _closed(request)
        return await _relay(request, answer, content, fault)

    def _choose(self, request: web.Request, operation: str) -> str | None:
        if self._planned[operation]:
            return self._planned[operation].popleft()
        name = f"{request.method} {request.raw_path}"
        self._times[name] += 1
        rng = random.Random(f"{self._seed} {name} {self._times[name]}")
        return rng.choice(self._faults) if rng.random() < self.share else None


def operation_of(request: web.Request) -> str:
    """GET, PUT, HEAD, DELETE, LIST, `conditional PUT`, or `multipart` for any part of such an upload."""
    if "uploads" in request.query or "uploadId" in request.query:
        return "multipart"
    if request.method == "GET" and ("list-type" in request.query or "prefix" in request.query):
        return "LIST"
    return "conditional PUT" if "If-None-Match" in request.headers else request.method


def _travels(header: str) -> bool:
    return header.lower() not in _CONNECTION_HEADERS


def _refusal(status: int, code: str) -> web.Response:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


def _closed(request: web.Request) -> web.Response:
    """Reset the connection; what is returned reaches nobody."""
    if request.transport is not None:
        connection: socket.socket = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        request.transport.abort()
    return web.Response()


async def _relay(
    request: web.Request, answer: aiohttp.ClientResponse, content: bytes, fault: str | None
) -> web.StreamResponse:
    headers = {name: value for name, value in answer.headers.items() if _travels(name)}
    length = answer.headers.get("Content-Length", "0") if request.method == "HEAD" else str(len(content))
    reply = web.StreamResponse(status=answer.status, headers=headers | {"Content-Length": length})
    await reply.prepare(request)
    if fault == CUT:
        await reply.write(content[: len(content) // 2])
        await asyncio.sleep(0)  # let that much leave
        _closed(request)
        return reply
    pieces = _PIECES if fault == SLOW else 1
    size = max(1, -(-len(content) // pieces))
    for start in range(0, len(content), size):
        await reply.write(content[start : start + size])
        await asyncio.sleep(_LATE_SECONDS / _PIECES if fault == SLOW else 0)
    await reply.write_eof()
    return reply
