"""What a guard and its child process say to each other.

The guard sends an `Order`, and then requests: tables as streams, or work items as JSON. The child answers with
messages of a `Kind`.
"""

import json
from dataclasses import asdict, dataclass
from enum import Enum

import pyarrow as pa


class Kind(bytes, Enum):
    """The first byte of a message."""

    BEAT = b"."
    """Followed by the name of a stage that begins, if one does."""
    READY = b"+"
    RESULT = b"="
    """Followed by what was counted meanwhile (see `meters`) as JSON. The annotated table is the next message."""
    REFUSED = b"!"
    """What fails the whole job; followed by the error's class and message as JSON."""
    DEVICE = b"?"
    """The GPU is lost; followed by the message."""


@dataclass(frozen=True, slots=True)
class StageOrder:
    """What a child process is to run."""

    config: str
    """The job, as JSON."""
    stage: int | None
    """Number of the model stage; None: the text stages."""
    gpu_assigned: bool = False
    """Whether Ray assigned a GPU to the parent."""
    memory: int | None = None
    """Bytes, see `guard.memory_limit`; not applied where the stage runs on a GPU, whose driver reserves address space
    beyond any measure.
    """


@dataclass(frozen=True, slots=True)
class ReadOrder:
    """What a child process is to read."""

    source: str
    """URL of INPUT."""
    input: str
    """The configuration of INPUT, as JSON."""
    memory: int | None = None
    """As of a stage."""


@dataclass(frozen=True, slots=True)
class FooterOrder:
    """To parse footers."""

    memory: int | None = None
    """As of a stage."""


Order = StageOrder | ReadOrder | FooterOrder


def order_message(order: Order) -> bytes:
    """The first message to a child process."""
    return json.dumps([type(order).__name__, asdict(order)]).encode()


def order_of(message: bytes) -> Order:
    """What `order_message` wrote."""
    name, values = json.loads(message)
    return {kind.__name__: kind for kind in (StageOrder, ReadOrder, FooterOrder)}[name](**values)


def to_stream(table: pa.Table) -> pa.Buffer:
    """The bytes of a table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def from_stream(stream: pa.Buffer | bytes) -> pa.Table:
    """The table of `to_stream`; its columns lie where the bytes do."""
    with pa.ipc.open_stream(stream) as reader:
        return reader.read_all()
