"""The last net under a work item: what escapes a stage fails the documents of one table and not the job.

Failures of single documents are the business of the stages themselves.
"""

from collections.abc import Callable

import pyarrow as pa

from luke_batch.annotator import vector_type
from luke_batch.columns import output_columns
from luke_batch.config import JobConfig
from luke_batch.document.state import Document, Failure, no_spans
from luke_batch.document.writing import write_documents


def isolated(
    work: Callable[[pa.Table], pa.Table], table: pa.Table, config: JobConfig, stage: str
) -> pa.Table:
    """`work(table)`; where that raises, `table` with every document failed in `stage`."""
    try:
        return work(table)
    except Exception as error:
        failed = Document(text="", sentences=no_spans(), failure=Failure.of(error, stage))
        return write_documents(table, [failed] * table.num_rows, output_columns(config), vector_type(config))
