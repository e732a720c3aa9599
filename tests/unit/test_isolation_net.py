"""Which errors are a document's, which a table's, and which the whole job's."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pytest

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import CheckpointError, DeviceError
from luke_batch.config import JobConfig, NerConfig
from luke_batch.document.columns import ERROR, write_documents
from luke_batch.document.state import Document, Failure, no_spans
from luke_batch.heads.head import Annotation, Ask, Head
from luke_batch.heads.run import run_head
from luke_batch.isolation.net import isolated
from luke_batch.model.engine.engine import Task
from luke_batch.model.inputs.windows import Window

THE_JOB_S = [CheckpointError("weights and tokenizer differ"), DeviceError("the GPU is lost")]
VECTOR = pa.list_(pa.float32(), 4)
COLUMNS = JobConfig().columns


class AskingHead(Head):
    """Asks once for each document, or fails by itself."""

    settings = NerConfig

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def annotate(self, document: Document) -> Annotation:  # noqa: ARG002 - as heads have it
        """One question."""
        if self._error is not None:
            raise self._error
        yield Ask(Task.TEXT, [Window(np.zeros(2, np.int32), np.zeros(0, np.int32), no_spans())])


class BrokenEngine:
    """Fails every time."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:  # noqa: ARG002 - as engines do
        """Nothing."""
        raise self._error


def texts(*texts: str) -> list[Document]:
    """Documents without annotations."""
    return [Document(text=text, sentences=no_spans()) for text in texts]


@pytest.mark.parametrize("error", THE_JOB_S, ids=repr)
def test_what_would_fail_every_document_fails_the_job(error: Exception) -> None:
    """Neither a head nor its engine turns it into dead letters."""
    for head in (AskingHead(), AskingHead(error)):
        documents = texts("a", "b")
        with pytest.raises(type(error), match=str(error)):
            run_head(head, documents, BrokenEngine(error), "cpu")
        assert [document.failure for document in documents] == [None, None]


def test_other_errors_are_those_of_documents() -> None:
    """A batch that fails is tried document by document."""
    documents = texts("a", "b")
    run_head(AskingHead(), documents, BrokenEngine(ValueError("odd")), "cpu")
    assert [document.failure for document in documents] == [Failure("ner", "ValueError", "odd")] * 2


class CountingEngine:
    """Says nothing, and notes how many windows each call had."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:  # noqa: ARG002 - as engines do
        """An empty output for each window."""
        self.calls.append(len(windows))
        return [np.zeros(0, np.float32) for _ in windows]


@pytest.mark.parametrize(("device", "together"), [("cpu", 8), ("cuda", 20)])
def test_a_large_item_is_not_held_at_once(device: str, together: int) -> None:
    """Windows and outputs of few documents are in memory on a CPU, of enough for its batches on a GPU."""
    engine = CountingEngine()
    run_head(AskingHead(), texts(*["a" * 2000] * 20), engine, device)
    assert sum(engine.calls) == 20
    assert max(engine.calls) == together


def table(failures: Iterable[Failure | None]) -> pa.Table:
    """A prepared table."""
    documents = [Document(text="", sentences=no_spans(), failure=failure) for failure in failures]
    source = pa.table({"text": [f"text {row}" for row in range(len(documents))]})
    return write_documents(source, documents, ["sentences"], None)


def failing(error: Exception, rows: pa.Table) -> pa.Table:
    """`isolated` around a stage that fails."""

    def work(_: pa.Table) -> pa.Table:
        raise error

    return isolated(work, rows, COLUMNS, VECTOR, "ner")


def test_a_table_that_fails_keeps_earlier_failures() -> None:
    """The first cause stays; documents without one get the new one, and all have the columns of the stage."""
    before = Failure("read", "DocumentError", "not UTF-8")
    result = failing(MemoryError("no room"), table([before, None]))
    assert [row["message"] for row in result[ERROR].to_pylist()] == ["not UTF-8", "no room"]
    assert set(COLUMNS) <= set(result.column_names)
    assert result.schema.field("text_embedding").type == VECTOR
    assert failing(MemoryError("no room"), pa.table({"text": ["a"]}))[ERROR].null_count == 0


@pytest.mark.parametrize("error", THE_JOB_S, ids=repr)
def test_a_table_does_not_hide_what_is_the_job_s(error: Exception) -> None:
    """The run ends with this message and goes on when the cause is mended."""
    with pytest.raises(type(error), match=str(error)):
        failing(error, table([None]))
