"""Gazetteers from Parquet and CSV files, local or remote."""

from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa

from luke_batch.errors import ConfigError, InputError
from luke_batch.text.gazetteer import Case, Gazetteer


def load_gazetteer(path: str, column: str = "name", case: Case = "smart") -> Gazetteer:
    """The names in `column` of a Parquet or CSV file (.parquet, .csv, .csv.gz); nulls are skipped.

    `path` may be a URL that fsspec knows, such as s3://. Raises ConfigError for another kind of file or a
    column that is missing or no text, InputError for a file that cannot be read.
    """
    name = path.lower()
    if not name.endswith((".parquet", ".csv", ".csv.gz")):
        message = (
            f"gazetteer {path}: its name tells no known kind of file; give a .parquet, .csv or .csv.gz file"
        )
        raise ConfigError(message)
    try:
        compression = "gzip" if name.endswith(".gz") else None
        with fsspec.open(path, "rb", compression=compression) as file:
            table = _read(cast(BinaryIO, file), name.endswith(".parquet"))
    except (OSError, pa.ArrowException) as error:
        message = (
            f"gazetteer {path}: cannot be read ({error}); check the path, the access rights and the file"
        )
        raise InputError(message) from error
    if column not in table.column_names:
        columns = ", ".join(table.column_names)
        message = f"gazetteer {path}: no column {column!r}; name the one that holds the names ({columns})"
        raise ConfigError(message)
    try:
        names = table.column(column).cast(pa.string()).to_pylist()
    except pa.ArrowException as error:
        kind = table.schema.field(column).type
        message = f"gazetteer {path}: column {column!r} is {kind}, not text; name another one"
        raise ConfigError(message) from error
    return Gazetteer((name for name in names if name is not None), case)


def _read(file: BinaryIO, parquet: bool) -> Any:
    """The whole file as an Arrow table; every column of a CSV file as text ("007", "NA")."""
    if parquet:
        import pyarrow.parquet

        return pyarrow.parquet.read_table(file)
    import pyarrow.csv

    header = pyarrow.csv.open_csv(file).schema.names
    file.seek(0)
    options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
    )
    return pyarrow.csv.read_csv(file, convert_options=options)
