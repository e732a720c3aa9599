"""The last net under a work item: what escapes a stage fails the documents of one table and not the job.

Failures of single documents are the business of the stages themselves. What would fail every table alike is
the job's: a UsageError (a checkpoint that changed, a names table that is gone) and a lost GPU pass through.
"""

from collections.abc import Callable, Sequence
from typing import cast

import pyarrow as pa

from luke_batch.annotate.annotator import vector_type
from luke_batch.base.errors import DeviceError, UsageError
from luke_batch.config import JobConfig
from luke_batch.document.columns import ERROR, write_documents
from luke_batch.document.state import Document, Failure, no_spans


def isolated(
    work: Callable[[pa.Table], pa.Table],
    table: pa.Table,
    columns: Sequence[str],
    vector: pa.DataType | None,
    stage: str,
) -> pa.Table:
    """`work(table)`; where that raises, `table` with every document failed in `stage`, save for those that
    have failed before.

    columns, vector: what `work` writes, as for `write_documents`.
    """
    try:
        return work(table)
    except (UsageError, DeviceError):
        raise
    except Exception as error:
        return fail_documents(table, Failure.of(error, stage), columns, vector)


def written_by(config: JobConfig, stage: int | None) -> tuple[Sequence[str], pa.DataType | None]:
    """The columns and the vector type that a model stage writes; None: the text stages. As for
    `write_documents`.
    """
    return (["sentences"], None) if stage is None else (config.columns, vector_type(config))


def fail_documents(table: pa.Table, failure: Failure, columns: Sequence[str], vector: pa.DataType | None) -> pa.Table:
    """`table` with every document failed, save for those that have failed before; see `isolated`."""
    documents = [Document(text="", sentences=no_spans(), failure=before or failure) for before in _failures(table)]
    return write_documents(table, documents, columns, vector)


def _failures(table: pa.Table) -> list[Failure | None]:
    """The failure that each document came with."""
    if ERROR not in table.column_names:
        return [None] * table.num_rows
    rows = cast("list[dict[str, str] | None]", table[ERROR].to_pylist())
    return [None if row is None else Failure(**row) for row in rows]
