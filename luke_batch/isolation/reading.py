"""Reads work items in a child process, so that a file which crashes or hangs pyarrow costs its own rows alone."""

import json
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from luke_batch.base import meters
from luke_batch.base.errors import CrashError, HangError
from luke_batch.config import InputConfig, IsolationConfig
from luke_batch.corpus.fragments import WorkItem
from luke_batch.corpus.read import ReadFailure, ReadItem, joined, read_items
from luke_batch.corpus.storage import Storage
from luke_batch.isolation.limits import limit_memory
from luke_batch.isolation.messages import ReadOrder, from_stream, to_stream
from luke_batch.isolation.watched import Watched, memory_limit

_FAILURES = b"_luke_batch_failures"
"""In the metadata of an answer: the fragments that could not be read, as JSON."""
_REMOTE = 5.0
"""Times the patience with a store, which asks it again by itself."""


class Reading:
    """What reads, inside of the child process."""

    name = "read"

    def __init__(self, order: ReadOrder) -> None:
        if order.memory is not None:
            limit_memory(order.memory)
        self._source = Storage.at(order.source)
        self._input = InputConfig.model_validate_json(order.input)

    def answers(self, request: bytes) -> Iterator[pa.Buffer]:
        """The work items of a request, one after another."""
        reading = read_items(self._source, map(WorkItem.from_json, json.loads(request)), self._input)
        while True:
            with meters.spending(self.name):
                read = next(reading, None)
            if read is None:
                return
            failures = json.dumps([[each.fragment, each.error_class, each.message] for each in read.failures])
            metadata = {**(read.table.schema.metadata or {}), _FAILURES: failures.encode()}
            yield to_stream(read.table.replace_schema_metadata(metadata))


class Reader(Watched):
    """Reads work items of one INPUT; see `Watched`."""

    def __init__(self, source: Storage, input: InputConfig, isolation: IsolationConfig) -> None:
        self._input = input
        self._patience = isolation.seconds * (1.0 if source.is_local else _REMOTE)
        memory = memory_limit(isolation.memory_gb)
        super().__init__(ReadOrder(source.url, input.model_dump_json(), memory), isolation)

    def __call__(self, items: Sequence[WorkItem]) -> Generator[ReadItem]:
        """Read them one after another. Where the process is lost, the item is read again fragment by fragment, and one
        that loses it twice by itself has failed, as others do that cannot be read.
        """
        left = deque(items)
        try:
            while left:
                self._send(json.dumps([item.to_json() for item in left]).encode())
                try:
                    while left:
                        yield self._next(left[0])
                        left.popleft()
                except (CrashError, HangError):
                    yield self._apart(left.popleft())
        finally:
            if left:  # nobody wants the rest: what the child still says must not answer another request
                self.close()

    def _next(self, item: WorkItem) -> ReadItem:
        answer = self._answer(self._patience, "); raise it if the file only needs longer")
        table = from_stream(answer)
        metadata = dict(table.schema.metadata)
        failures = tuple(ReadFailure(*each) for each in json.loads(metadata.pop(_FAILURES)))
        return ReadItem(item, table.replace_schema_metadata(metadata or None), failures)

    def _apart(self, item: WorkItem) -> ReadItem:
        parts = [self._alone(replace(item, fragments=(fragment,))) for fragment in item.fragments]
        return joined(item, parts, self._input)

    def _alone(self, item: WorkItem) -> ReadItem:
        (fragment,) = item.fragments
        for attempt in range(2):
            self._send(json.dumps([item.to_json()]).encode())
            try:
                return self._next(item)
            except (CrashError, HangError) as error:
                if attempt:
                    failure = ReadFailure(0, type(error).__name__, f"{fragment.source}: {error}")
                    return joined(item, [ReadItem(item, pa.table({}), (failure,))], self._input)
        raise AssertionError("it has returned")
