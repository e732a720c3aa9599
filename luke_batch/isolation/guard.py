"""Runs a stage in a child process, and finds the documents that it cannot survive."""

import pyarrow as pa

from luke_batch.base.errors import CrashError, HangError
from luke_batch.config import JobConfig
from luke_batch.document.source import longest, source_column
from luke_batch.document.state import Failure
from luke_batch.isolation.messages import StageOrder, from_stream, to_stream
from luke_batch.isolation.net import fail_documents, written_by
from luke_batch.isolation.watched import Watched, memory_limit

_LONGER = " for each 1,000 characters); raise it if the document only needs longer"


class Guard(Watched):
    """A stage of a job in a child process; see `Watched`."""

    def __init__(self, config: JobConfig, stage: int | None, *, gpu_assigned: bool = False, threads: int = 1) -> None:
        """Start the stage: `stage` is the number of a model stage, None the text stages.

        Raises:
            UsageError: the stage cannot be used (a checkpoint that changed, a names table that is gone, a
            device that is not there, too little memory to load it).
            DeviceError: the GPU is lost.
        """
        self._config, self._number = config, stage
        memory = memory_limit(config.isolation.memory_gb)
        super().__init__(StageOrder(config.to_json(), stage, gpu_assigned, memory), config.isolation, threads)

    def __call__(self, stream: pa.Buffer) -> pa.Buffer:
        """The annotated table; a document that hangs or ends its process is failed, as others that fail are.

        Args:
            stream: a table, see `to_stream`, with the columns that the stage needs.

        Raises:
            UsageError, DeviceError: as on the start.
        """
        table = from_stream(stream)
        try:
            return self._ask(stream, self._patience(table))
        except (CrashError, HangError):
            pass
        if table.num_rows < 2:
            return self._alone(table)
        rows = [self._alone(table.slice(row, 1)) for row in range(table.num_rows)]
        return to_stream(pa.concat_tables(from_stream(row) for row in rows))

    def _alone(self, row: pa.Table) -> pa.Buffer:
        stream, patience = to_stream(row), self._patience(row)
        try:
            return self._ask(stream, patience)
        except (CrashError, HangError):  # for reasons of its own, perhaps
            pass
        try:
            return self._ask(stream, patience)
        except (CrashError, HangError) as error:
            failure = Failure.of(error, error.stage)
            return to_stream(fail_documents(row, failure, *written_by(self._config, self._number)))

    def _patience(self, table: pa.Table) -> float:
        """Seconds without a sign of life after which a table is given up: those of its longest text."""
        return self._seconds * max(1.0, longest(source_column(table, self._config.input.text_column)) / 1000)

    def _ask(self, stream: pa.Buffer, patience: float) -> pa.Buffer:
        """The child's answer. CrashError or HangError where there is none: then there is another child."""
        self._send(stream)
        return self._answer(patience, _LONGER)
