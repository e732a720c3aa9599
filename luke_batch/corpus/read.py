"""One work item -> one Arrow table.

A file is read in one forward pass with bounded buffers: row groups that no fragment needs are skipped, a big
row group is decoded in batches, and nothing behind the last needed row is touched. A fragment that cannot be
read becomes a failure; the others still come.

A partition key in the role of a column (`input.lang_column`) travels with the rows, and is not written into the
output files: their folders say it already, and whoever reads these as hive partitions gets the column from
there.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base import meters
from luke_batch.base.errors import FragmentError
from luke_batch.config import InputConfig
from luke_batch.corpus.footers import inspect
from luke_batch.corpus.fragments import Fragment, WorkItem
from luke_batch.corpus.sources import NO_VALUE, partition_values
from luke_batch.corpus.storage import Storage
from luke_batch.document.columns import FRAGMENT, ROW

_BATCH_ROWS = 1024
_BATCH_BYTES = 16 * 2**20
_LOCAL_BUFFER = 2**20
_REMOTE_BUFFER = 8 * 2**20
"""Bytes that one column reads ahead: a request to an object store costs tens of milliseconds."""
_FROM_PARTITION = b"luke_batch.from_partition"


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """A fragment that could not be read."""

    fragment: int
    """Index in the work item."""
    error_class: str
    message: str


@dataclass(frozen=True, slots=True)
class ReadItem:
    """The rows of a work item, and the fragments that have none because they could not be read."""

    item: WorkItem
    table: pa.Table
    """Source columns, then `_luke_batch_fragment` and `_luke_batch_row`.

    Never empty: without any row it holds one carrier row, null with fragment -1, so that the block reaches
    the sink. Where no fragment at all could be read, the source columns are those of the configuration.
    """
    failures: tuple[ReadFailure, ...]


def read_item(source: Storage, item: WorkItem, config: InputConfig) -> ReadItem:
    """Read one item. Failing fragments never raise."""
    return next(read_items(source, [item], config))


def read_items(source: Storage, items: Iterable[WorkItem], config: InputConfig) -> Iterator[ReadItem]:
    """Read items one after another, with one pass over neighbours in one file (see `reading_groups`)."""
    cursor: _Cursor | None = None
    for item in items:
        tables: list[pa.Table] = []
        failures: list[ReadFailure] = []
        for index, fragment in enumerate(item.fragments):
            try:
                if cursor is not None and cursor.path != fragment.source:
                    cursor.close()
                    cursor = None
                cursor = cursor or _Cursor(source, fragment)
                rows = cursor.take(fragment.row_start, fragment.row_end)
                cursor.check_unchanged()
                rows = _with_language(rows, config.lang_column, fragment.partition)
                tables.append(_numbered(rows, index, fragment.row_start))
            except Exception as error:  # a corrupt page can raise anything, even MemoryError for a garbled length
                if cursor is not None:
                    cursor.close()
                cursor = None
                message = " ".join(str(error).split()) or "no message"
                if fragment.source not in message:
                    message = f"{fragment.source}: {message}"
                failures.append(ReadFailure(index, type(error).__name__, message))
        yield ReadItem(item, _whole(tables, config), tuple(failures))
    if cursor is not None:
        cursor.close()


def joined(item: WorkItem, parts: Sequence[ReadItem], config: InputConfig) -> ReadItem:
    """What was read fragment by fragment as one work item: `parts` has one of a single fragment for each."""
    tables: list[pa.Table] = []
    failures: list[ReadFailure] = []
    for index, part in enumerate(parts):
        failures += [replace(failure, fragment=index) for failure in part.failures]
        if not part.failures:
            rows = part.table.num_rows if part.table[FRAGMENT][0].as_py() >= 0 else 0
            place = part.table.schema.get_field_index(FRAGMENT)
            numbers = pa.repeat(pa.scalar(index, pa.int32()), rows)
            tables.append(part.table.slice(0, rows).set_column(place, FRAGMENT, numbers))
    return ReadItem(item, _whole(tables, config), tuple(failures))


def is_from_partition(field: pa.Field) -> bool:
    """Whether a column of a `ReadItem` comes from a partition key, and not from the file."""
    return _FROM_PARTITION in (field.metadata or {})


class _Cursor:
    """Row ranges of one open file; ascending ranges cost one pass."""

    def __init__(self, source: Storage, fragment: Fragment) -> None:
        self.path = fragment.source
        file = source.stat(self.path)
        if file is None:
            raise FragmentError(f"{self.path} has vanished since the plan was made")
        self._source, self._version = source, file.version
        self._footer = inspect(source, file)
        if fragment.footer_id not in ("", self._footer.footer_id) or fragment.written not in ("", file.written):
            raise FragmentError(f"{self.path} has changed since the plan was made; the next run takes it up")
        self._file = source.open(self.path)
        self._parquet = pq.ParquetFile(
            self._file,
            metadata=self._footer.metadata,
            buffer_size=_LOCAL_BUFFER if source.is_local else _REMOTE_BUFFER,
            pre_buffer=False,
            page_checksum_verification=True,
        )
        self._schema: pa.Schema = self._parquet.schema_arrow
        self._starts = list(accumulate(self._footer.group_rows, initial=0))[:-1]
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._batch: pa.RecordBatch | None = None
        self._first = 0
        """Row of the file at which `_batch` starts."""

    def take(self, start: int, end: int) -> pa.Table:
        parts: list[pa.RecordBatch] = []
        while start < end:
            batch = self._batch_at(start)
            stop = min(end, self._first + batch.num_rows)
            parts.append(batch.slice(start - self._first, stop - start))
            start = stop
        return pa.Table.from_batches(parts, self._schema)

    def check_unchanged(self) -> None:
        """FragmentError where the file was written since it was opened: rows may be of before or after that."""
        file = self._source.stat(self.path)
        if file is None or file.version != self._version:
            raise FragmentError(f"{self.path} has changed while it was read; the next run takes it up")

    def close(self) -> None:
        self._batches, self._batch = iter(()), None
        self._parquet.close()
        self._file.close()

    def _batch_at(self, row: int) -> pa.RecordBatch:
        """The batch that holds `row`: reached from the present one, or by a fresh start at its group."""
        group = bisect_right(self._starts, row) - 1
        batch = self._batch
        if batch is None or row < self._first or self._starts[group] > self._first + len(batch):
            self._first = self._starts[group]
            self._batches = self._batches_from(group)
            batch = self._next()
        while row >= self._first + len(batch):
            self._first += len(batch)
            batch = self._next()
        self._batch = batch
        return batch

    def _batches_from(self, group: int) -> Iterator[pa.RecordBatch]:
        """Group by group: a batch over two groups would fail a good one for damage in its neighbour."""
        row_bytes = sum(self._footer.group_bytes) // max(1, self._footer.rows)
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, row_bytes)))
        for index in range(group, len(self._starts)):
            yield from self._parquet.iter_batches(rows, [index], use_threads=False)

    def _next(self) -> pa.RecordBatch:
        meters.beat()
        batch = next(self._batches, None)
        if batch is None:
            raise FragmentError(f"{self.path} ends at row {self._first}, its footer promises {self._footer.rows}")
        return batch


def _with_language(table: pa.Table, column: str | None, partition: str) -> pa.Table:
    """Rows of one file with the column of languages: from the partition, unless the file has one of that name."""
    if column is None or column in table.column_names:
        return table
    value = partition_values(partition).get(column)
    if value is None:
        return table
    language = pa.scalar(None if value == NO_VALUE else value, pa.string())
    field = pa.field(column, pa.string(), metadata={_FROM_PARTITION: b""})
    return table.append_column(field, pa.repeat(language, table.num_rows))


def _numbered(table: pa.Table, index: int, first: int) -> pa.Table:
    rows = table.num_rows
    table = table.append_column(FRAGMENT, pa.repeat(pa.scalar(index, pa.int32()), rows))
    return table.append_column(ROW, pa.arange(first, first + rows))


def _whole(tables: list[pa.Table], config: InputConfig) -> pa.Table:
    schema: pa.Schema = tables[0].schema if tables else _bare_schema(config)
    # Files packed together differ at most in the row count that pandas notes in its metadata.
    table = pa.concat_tables([part.replace_schema_metadata(schema.metadata) for part in tables]) if tables else None
    if table is None or table.num_rows == 0:
        return pa.Table.from_arrays([_carrier(field) for field in schema], schema=schema)
    return _unified(table)


def _carrier(field: pa.Field) -> pa.Array:
    """One value for the row that stands for no document."""
    return pa.array([-1], field.type) if field.name in (FRAGMENT, ROW) else pa.nulls(1, field.type)


def _unified(table: pa.Table) -> pa.Table:
    """One dictionary a column, as each batch brings its own."""
    try:
        return table.unify_dictionaries()
    except pa.ArrowNotImplementedError:  # dictionaries inside lists or structs: each chunk keeps its own
        return table


def _bare_schema(config: InputConfig) -> pa.Schema:
    spans = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))
    pairs = pa.list_(pa.struct([("head", pa.int32()), ("tail", pa.int32())]))
    columns = {
        config.id_column: pa.string(),
        config.text_column: pa.string(),
        config.lang_column: pa.string(),
        config.mentions_column: spans,
        config.relations_column: pairs,
    }
    named = [(name, kind) for name, kind in columns.items() if name is not None]
    return pa.schema([*named, (FRAGMENT, pa.int32()), (ROW, pa.int64())])
