"""Committed rows as one dataset.

Of each source file only one generation is read, and each of its rows once (see `generations`). Schemas are
unified: a column that some files lack is null there, types that differ are widened (integers and strings to
strings), dictionaries are decoded where files disagree. Partition keys become string columns, unless the
files themselves have a column of that name.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

from luke_batch.base.errors import FragmentError, OutputError
from luke_batch.corpus.committed import CommittedFile, list_data
from luke_batch.corpus.footers import Footer, inspect_all
from luke_batch.corpus.generations import shown
from luke_batch.corpus.storage import Storage
from luke_batch.corpus.unify import unify

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset


def read(output: str) -> "Dataset":
    """The committed rows of OUTPUT (local or `s3://`), lazily.

    Raises:
        OutputError: nothing is committed there, a file cannot be read, or two files have columns that cannot
        be unified.
    """
    from pyarrow import dataset as ds  # slow to import, and a plan does without

    storage = Storage.at(output)
    try:
        data = list_data(storage)
        if data.torn:
            raise FragmentError(f"{data.torn[0].path} is no complete Parquet file")
        files = [file for found in data.committed.values() for file in shown(storage, found)]
    except FragmentError as error:
        raise _damaged(storage, error) from error
    except OSError as error:
        raise OutputError(f"OUTPUT {output} cannot be listed: {error}") from error
    if not files:
        raise OutputError(f"OUTPUT {output} holds no committed file; run `luke-batch annotate INPUT {output}` first")
    files.sort(key=lambda file: (file.partition, file.key.path, file.key.rows or (0, 0)))
    footers = _footers(storage, files)
    schema = unify((file.file.path, footer.schema) for file, footer in zip(files, footers, strict=True))
    columns = set(schema.names)
    keys = sorted({name for file in files for name, _ in _values(file)} - columns)
    format = ds.ParquetFileFormat()
    fragments = [
        format.make_fragment(
            storage.absolute(file.file.path),
            filesystem=storage.arrow_filesystem,
            partition_expression=_expression(file, columns),
        )
        for file in files
    ]
    schema = pa.schema([*schema, *(pa.field(name, pa.string()) for name in keys)])
    return ds.FileSystemDataset(fragments, schema, format, storage.arrow_filesystem)


def _footers(storage: Storage, files: list[CommittedFile]) -> Iterator[Footer]:
    for footer in inspect_all(storage, [file.file for file in files]):
        if isinstance(footer, FragmentError):
            raise _damaged(storage, footer) from footer
        yield footer


def _damaged(storage: Storage, error: FragmentError) -> OutputError:
    return OutputError(f"OUTPUT {storage.url}: {error}; remove that file and run the job again")


def _values(file: CommittedFile) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in file.partition.split("/"))
    return [(name, value) for name, equals, value in pairs if equals]


def _expression(file: CommittedFile, columns: set[str]) -> "object | None":
    from pyarrow import dataset as ds

    expression = None
    for name, value in _values(file):
        if name in columns:
            continue
        missing = value == "__HIVE_DEFAULT_PARTITION__"
        equal = ds.field(name).is_null() if missing else ds.field(name) == unquote(value)
        expression = equal if expression is None else expression & equal
    return expression
