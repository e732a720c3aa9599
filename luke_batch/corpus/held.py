"""How many rows and dead letters each output file holds, by its footer.

A file's name says which rows it commits; that it has each of them, as a row or as a dead letter, its footer says. What
was read is noted for the next night, so that an unchanged file is not opened again:

    OUTPUT/_luke_batch/held.arrow     path, version -> rows, dead, mark of the letters, version of the file of letters

That is derived, and safe to delete. A file is taken for the one that was read only where its version is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import pyarrow as pa

from luke_batch.base.errors import FragmentError
from luke_batch.corpus.dead_letters import count_in, mark_of
from luke_batch.corpus.footers import inspect_all
from luke_batch.corpus.forgotten import rows_in
from luke_batch.corpus.output_file import Key, provenance
from luke_batch.corpus.storage import HELD, Storage, StoredFile

_KNOWN = pa.schema(
    {"path": pa.string(), "version": pa.string(), "rows": pa.int64(), "dead": pa.int64(), "mark": pa.string()}
    | {"forgotten": pa.int64(), "shown": pa.string()},
    metadata={"luke_batch.held": "3"},
)


@dataclass(frozen=True, slots=True)
class Held:
    """One output file of one version."""

    version: str
    """See `StoredFile.version`."""
    rows: int
    """Documents in the file; -1 where its footer cannot be read."""
    dead: int
    """Its dead letters."""
    mark: str | None
    """See `mark_of`; None for a file of a version that kept letters apart."""
    forgotten: int = 0
    """Rows that were erased."""
    shown: str = ""
    """Version of the file in OUTPUT/_dead_letters that was seen to show these letters."""

    def is_all_of(self, key: Key) -> bool:
        """Whether rows, letters and erased rows are as many as the rows that the name tells of."""
        start, end = key.rows or (0, 0)
        return self.rows + self.dead + self.forgotten == end - start


def held_by(
    output: Storage,
    files: Sequence[tuple[Key, StoredFile]],
    letters: Mapping[Key, StoredFile],
    known: Mapping[str, Held],
) -> dict[str, Held]:
    """What each file holds, by its path; those that are not `known` are opened.

    letters: the files of OUTPUT/_dead_letters, which tell of the letters of older outputs.
    """
    found = {file.path: known[file.path] for _, file in files if _is_of(known.get(file.path), file)}
    others = [(key, file) for key, file in files if file.path not in found]
    apart: list[tuple[StoredFile, StoredFile]] = []
    """Older outputs with the files of their letters."""
    for (key, file), footer in zip(others, inspect_all(output, [file for _, file in others]), strict=True):
        if isinstance(footer, FragmentError):
            found[file.path] = Held(file.version, -1, 0, "")
            continue
        said = provenance(footer.schema)
        dead = count_in(said)
        mark = None if dead is None else mark_of(said)
        found[file.path] = Held(file.version, footer.rows, dead or 0, mark, len(rows_in(said)))
        if dead is None and key in letters:
            apart.append((file, letters[key]))
    for (file, _), footer in zip(apart, inspect_all(output, [letter for _, letter in apart]), strict=True):
        rows = 0 if isinstance(footer, FragmentError) else footer.rows
        found[file.path] = Held(file.version, found[file.path].rows, rows, None)
    return found


def read_known(output: Storage) -> dict[str, Held]:
    """What earlier runs noted, by path; none where there is nothing, or it cannot be read."""
    try:
        if output.stat(HELD) is None:
            return {}
        with pa.ipc.open_file(pa.BufferReader(output.read_bytes(HELD))) as reader:
            table = reader.read_all()
    except (OSError, pa.ArrowException):
        return {}
    if not table.schema.equals(_KNOWN, check_metadata=True):
        return {}
    rows = cast("list[dict[str, Any]]", table.to_pylist())
    return {row.pop("path"): Held(**row) for row in rows}


def write_known(output: Storage, known: Mapping[str, Held]) -> None:
    """Replace what earlier runs noted."""
    # A footer that could not be read may be read tomorrow.
    rows = [{"path": path, **asdict(each)} for path, each in sorted(known.items()) if each.rows >= 0]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _KNOWN) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=_KNOWN))
    output.write_atomic(HELD, sink.getvalue())


def _is_of(known: Held | None, file: StoredFile) -> bool:
    return known is not None and known.version == file.version and known.rows >= 0
