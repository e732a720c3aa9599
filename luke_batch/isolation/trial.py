"""Parses footers of source files in a child process first: one that crashes or hangs pyarrow ends no plan."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache

import pyarrow as pa

from luke_batch.base import meters
from luke_batch.base.errors import CrashError, FragmentError, HangError
from luke_batch.config import IsolationConfig
from luke_batch.corpus import footers
from luke_batch.corpus.footers import Tail, Trial
from luke_batch.isolation.limits import limit_memory
from luke_batch.isolation.messages import FooterOrder, from_stream, to_stream
from luke_batch.isolation.watched import Watched, memory_limit

_TAILS = pa.schema({"path": pa.binary(), "size": pa.int64(), "content": pa.binary()})


class Parsing:
    """What parses, inside of the child process."""

    name = "0"

    def __init__(self, order: FooterOrder) -> None:
        if order.memory is not None:
            limit_memory(order.memory)

    def answers(self, request: bytes) -> Iterator[pa.Buffer]:
        """Nothing but that it has lived through all of them. Which one it is at, its signs of life say."""
        table = from_stream(request)
        for number, row in enumerate(table.to_pylist()):
            meters.beat(str(number))
            # What can be said of it, whoever asks next is told.
            with suppress(Exception):
                _ = footers.parse(Tail(os.fsdecode(row["path"]), row["size"], row["content"])).schema
        yield to_stream(table.slice(0, 0))


class FooterTrial(Watched):
    """A `Trial`, which may be called by several threads."""

    def __init__(self, isolation: IsolationConfig) -> None:
        self._turn = threading.Lock()
        super().__init__(FooterOrder(memory_limit(isolation.memory_gb)), isolation)

    def __call__(self, tails: Sequence[Tail]) -> list[FragmentError | None]:
        """The error of each footer that the process does not survive, twice."""
        found: list[FragmentError | None] = [None] * len(tails)
        with self._turn:
            first = 0
            while first < len(tails):
                lost = self._first_lost(tails[first:])
                if lost is None:
                    break
                place = first + lost[0]
                if again := self._first_lost(tails[place : place + 1]):
                    found[place] = FragmentError(f"{tails[place].path}: its footer cannot be parsed: {again[1]}")
                first = place + 1
        return found

    def _first_lost(self, tails: Sequence[Tail]) -> tuple[int, Exception] | None:
        rows = [(os.fsencode(tail.path), tail.size, tail.content) for tail in tails]
        columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _TAILS, strict=True)]
        self._send(to_stream(pa.Table.from_arrays(columns, schema=_TAILS)))
        self._stage = Parsing.name  # not where an earlier request ended
        try:
            self._answer(self._seconds, "); raise it if the file only needs longer")
        except (CrashError, HangError) as error:
            return int(error.stage) if error.stage.isdigit() else 0, error
        return None


def footer_trial(isolation: IsolationConfig) -> Trial:
    """One whose process is started at the first footer, and once for all trials of this process."""
    return lambda tails: _started(isolation.model_dump_json())(tails) if tails else []


@cache
def _started(isolation: str) -> FooterTrial:
    return FooterTrial(IsolationConfig.model_validate_json(isolation))
