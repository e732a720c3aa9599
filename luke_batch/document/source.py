"""What happens to a source column whose name we write: it travels, and is committed, under another."""

from collections.abc import Collection

import pyarrow as pa

_RENAMED_FROM = b"luke_batch.renamed_from"


def rename_collisions(table: pa.Table, written: Collection[str]) -> pa.Table:
    """`table` with every column that bears a name in `written` renamed to `source_<name>`.

    The prefix comes again where that exists already. Field metadata records the old name: see
    `renamed_columns`.
    """
    fields = [_never_renamed(field) for field in table.schema]
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


def _never_renamed(field: pa.Field) -> pa.Field:
    """Files that an earlier job wrote say what that job renamed, which is not our concern."""
    metadata = dict(field.metadata or {})
    if metadata.pop(_RENAMED_FROM, None) is None:
        return field
    return field.with_metadata(metadata)


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
