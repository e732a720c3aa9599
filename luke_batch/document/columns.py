"""Columns that travel with a document between stages and never reach a committed file: their names begin
with `_luke_batch_`.
"""

from collections.abc import Iterable

import pyarrow as pa

INTERNAL = "_luke_batch_"
ERROR = INTERNAL + "error"
WORDS = INTERNAL + "words"
GAZETTEER = INTERNAL + "gazetteer"
GIVEN = INTERNAL + "given"
GIVEN_LABELS = INTERNAL + "given_labels"
PAIRS = INTERNAL + "pairs"

ERROR_TYPE = pa.struct([("stage", pa.string()), ("error_class", pa.string()), ("message", pa.string())])


def set_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Replace column `name`, or append it."""
    index = table.schema.get_field_index(name)
    field = pa.field(name, values.type)
    return table.append_column(field, values) if index < 0 else table.set_column(index, field, values)


def drop_internal(table: pa.Table, keep: Iterable[str] = ()) -> pa.Table:
    """`table` without internal columns, except those in `keep`."""
    return table.drop_columns(
        [name for name in table.column_names if name.startswith(INTERNAL) and name not in set(keep)]
    )
