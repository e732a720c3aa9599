"""Columns that travel with a document between stages and never reach a committed file: their names begin
with `_luke_batch_`.
"""

import pyarrow as pa

INTERNAL = "_luke_batch_"
FRAGMENT = INTERNAL + "fragment"
"""int32: index of the row's fragment in its work item; -1 for a carrier row, which stands for no document."""
ROW = INTERNAL + "row"
"""int64: row in the source file, from 0; -1 for a carrier row."""
ERROR = INTERNAL + "error"
"""struct<stage, error_class, message: string>: why the document failed; null where it did not."""
WORDS = INTERNAL + "words"
GAZETTEER = INTERNAL + "gazetteer"
ALIASES = INTERNAL + "aliases"
GIVEN = INTERNAL + "given"
GIVEN_LABELS = INTERNAL + "given_labels"
GIVEN_TITLES = INTERNAL + "given_titles"
GIVEN_CANDIDATES = INTERNAL + "given_candidates"
PAIRS = INTERNAL + "pairs"

ERROR_TYPE = pa.struct([("stage", pa.string()), ("error_class", pa.string()), ("message", pa.string())])


def set_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Replace column `name`, or append it."""
    index = table.schema.get_field_index(name)
    field = pa.field(name, values.type)
    return table.append_column(field, values) if index < 0 else table.set_column(index, field, values)


def drop_internal(table: pa.Table) -> pa.Table:
    """`table` without internal columns."""
    return table.drop_columns([name for name in table.column_names if name.startswith(INTERNAL)])
