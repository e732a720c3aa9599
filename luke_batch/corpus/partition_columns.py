"""A partition key in the role of a column: it travels with the rows, and is not written into the files.

The folders of OUTPUT say it already, and whoever reads them as hive partitions gets the column from there.
"""

import pyarrow as pa

from luke_batch.corpus.restriction import partition_values

_MARK = b"luke_batch.from_partition"
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def with_language(table: pa.Table, column: str | None, partition: str) -> pa.Table:
    """`table` with the column of languages, taken from `partition` unless the file has one of that name.

    Args:
        table: rows of one file. column: `input.lang_column`. partition: folders `key=value/…` of the file.
    """
    if column is None or column in table.column_names:
        return table
    value = partition_values(partition).get(column)
    if value is None:
        return table
    language = pa.scalar(None if value == _NO_VALUE else value, pa.string())
    field = pa.field(column, pa.string(), metadata={_MARK: b""})
    return table.append_column(field, pa.repeat(language, table.num_rows))


def is_from_partition(field: pa.Field) -> bool:
    """Whether `with_language` made this column."""
    return _MARK in (field.metadata or {})
