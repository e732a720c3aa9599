"""Internal columns, and what happens to a source column whose name we write.

A table on its way has the source columns, then the annotations, and internal columns whose names begin with
`_luke_batch_`; those never reach a committed file.
"""

from collections.abc import Collection

import pyarrow as pa

INTERNAL = "_luke_batch_"
FRAGMENT = INTERNAL + "fragment"
"""int32: index of the row's fragment in its work item; -1 for a carrier row, which stands for no document."""
ROW = INTERNAL + "row"
"""int64: row in the source file, from 0; -1 for a carrier row."""
ERROR = INTERNAL + "error"
"""struct<stage, error_class, message: string>: why the document failed; null where it did not."""

ERROR_TYPE = pa.struct([("stage", pa.string()), ("error_class", pa.string()), ("message", pa.string())])

_RENAMED_FROM = b"luke_batch.renamed_from"


def rename_collisions(table: pa.Table, written: Collection[str]) -> pa.Table:
    """`table` with every column that bears a name in `written` renamed to `source_<name>`.

    The prefix comes again where that exists already. Field metadata records the old name: see
    `renamed_columns`.
    """
    fields = list(table.schema)
    taken = {field.name for field in fields} | set(written)
    for index, field in enumerate(fields):
        if field.name not in written:
            continue
        new = f"source_{field.name}"
        while new in taken:
            new = f"source_{new}"
        taken.add(new)
        metadata = {**(field.metadata or {}), _RENAMED_FROM: field.name.encode()}
        fields[index] = field.with_name(new).with_metadata(metadata)
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields, metadata=table.schema.metadata))


def renamed_columns(schema: pa.Schema) -> dict[str, str]:
    """Old name -> present name of the columns that `rename_collisions` renamed."""
    return {
        field.metadata[_RENAMED_FROM].decode(): field.name
        for field in schema
        if field.metadata and _RENAMED_FROM in field.metadata
    }


def source_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """The source column that the configuration calls `name`, renamed or not."""
    return table[renamed_columns(table.schema).get(name, name)]
