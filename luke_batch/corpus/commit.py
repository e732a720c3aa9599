"""Annotated rows of one work item -> one output file for each fragment, atomically.

Each fragment must have all its rows, each once; dead rows go aside, good ones are verified. Once that is done
for all fragments, each writes its output file, which holds its dead letters too: that is the commit. It is written
where there was none, or where the one is that a replay began with: an attempt that was overtaken leaves what it finds.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from luke_batch.base.contracts import load_contract
from luke_batch.base.errors import ContractError, LeaseError
from luke_batch.config import InputConfig
from luke_batch.corpus.attempts import commit_file, standing
from luke_batch.corpus.dead_letters import (
    DeadLetter,
    count_in,
    letters_table,
    packed,
    show_letters,
    write_file_dead_letter,
)
from luke_batch.corpus.forgotten import Forgotten, rows_in, told
from luke_batch.corpus.fragments import Fragment, WorkItem
from luke_batch.corpus.lease import is_overtaken
from luke_batch.corpus.output_file import for_rows, provenance, to_parquet, with_provenance
from luke_batch.corpus.read import ReadFailure, is_from_partition
from luke_batch.corpus.storage import Storage
from luke_batch.corpus.verify import verify
from luke_batch.document.columns import ERROR, FRAGMENT, INTERNAL, ROW
from luke_batch.document.source import readable, renamed_columns, source_column, texts_of


@dataclass(frozen=True, slots=True)
class RunContext:
    """What every commit of a run shares."""

    run_id: str
    fingerprint: str
    written: tuple[str, ...]
    """Annotation columns that this configuration writes."""
    input: InputConfig
    compression: str = "zstd"
    """zstd, snappy or none."""
    metadata: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    """Further provenance for each file's metadata, such as `models`; keys get the prefix `luke_batch.`."""
    forgotten: Forgotten = field(default_factory=Forgotten)
    """Documents that are left out."""
    lease: int | None = None
    """Number of the run's lease: nothing is committed once another run has taken over."""


@dataclass(frozen=True, slots=True)
class Committed:
    """One committed fragment."""

    path: str
    """Output file, relative to OUTPUT."""
    source: str
    rows: int
    """Documents in the output file."""
    dead: int
    """Documents in the dead letters."""
    bytes: int
    """Size of the output file."""
    version: str
    """Of the output file, see `StoredFile.version`."""
    duplicate_ids: int
    """Documents whose id an earlier one of the fragment has."""
    renamed: Mapping[str, str]
    """Source columns that bore a name we write: old name -> new name."""
    forgotten: int = 0
    """Documents that OUTPUT was told to forget."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A fragment that has passed every check."""

    fragment: Fragment
    table: pa.Table
    dead: int
    duplicate_ids: int


def commit_item(
    output: Storage, item: WorkItem, table: pa.Table, failures: Sequence[ReadFailure], context: RunContext
) -> list[Committed]:
    """Commit the fragments of `item` that could be read; write the dead letters of the others.

    Args:
        output: OUTPUT. item: the work item. table: source columns, annotation columns, and the internal
        columns of `columns.py`; carrier rows are ignored. failures: fragments that could not be read.
        context: the run.

    Raises:
        ContractError: a row is missing or double, or an annotation breaks its contract; nothing of the item
        is written.
        LeaseError: another run has taken over OUTPUT; the same.
    """
    positions = _positions(table)
    failed = {failure.fragment for failure in failures}
    prepared = [
        _prepare(table, fragment, positions.pop(index, []), context)
        for index, fragment in enumerate(item.fragments)
        if index not in failed
    ]
    if positions:
        raise ContractError(f"the sink got rows of fragments {sorted(positions)}, which are not in the work item")
    _check(output, context)
    for failure in failures:
        fragment = item.fragments[failure.fragment]
        letter = DeadLetter(None, fragment.source, None, "read", failure.error_class, failure.message)
        write_file_dead_letter(output, letter, fragment.content_id, context.fingerprint, context.run_id)
    return [_commit(output, ready, context) for ready in prepared]


def _positions(table: pa.Table) -> dict[int, list[tuple[int, int]]]:
    """(row in the source file, position in `table`) by fragment, in the order of the source."""
    found: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    pairs = zip(table[FRAGMENT].to_pylist(), table[ROW].to_pylist(), strict=True)
    for position, (fragment, row) in enumerate(pairs):
        if fragment >= 0:
            found[fragment].append((row, position))
    for entries in found.values():
        entries.sort()
    return dict(found)


def _prepare(table: pa.Table, fragment: Fragment, entries: list[tuple[int, int]], context: RunContext) -> _Prepared:
    if [row for row, _ in entries] != list(range(fragment.row_start, fragment.row_end)):
        raise ContractError(
            f"the sink got {len(entries)} rows for rows {fragment.row_start} to {fragment.row_end} of"
            f" {fragment.source}: each must come exactly once; this is a defect of luke-batch"
        )
    rows = gather(table, [position for _, position in entries])
    numbers = range(fragment.row_start, fragment.row_end)
    errors = rows[ERROR].to_pylist()
    id_column = context.input.id_column
    ids = None if id_column is None else [readable(value) for value in source_column(rows, id_column)]
    names = [f"{fragment.source}#{row}" for row in numbers] if ids is None else ids
    gone = {index for index, name in enumerate(names) if name in context.forgotten}
    good = gather(rows, [index for index, error in enumerate(errors) if error is None and index not in gone])
    dead = tuple(
        DeadLetter(names[index], fragment.source, row, **error)
        for index, (error, row) in enumerate(zip(errors, numbers, strict=True))
        if error is not None and index not in gone
    )
    texts = texts_of(source_column(good, context.input.text_column)) if "mentions" in context.written else []
    verify(good, texts, context.written)
    known = [id for id in ids or [] if id is not None]
    letters = letters_table(dead, fragment.key(context.fingerprint), context.run_id)
    said = {**packed(letters), **told([fragment.row_start + index for index in gone])}
    return _Prepared(fragment, _arranged(good, fragment, said, context), len(dead), len(known) - len(set(known)))


def gather(table: pa.Table, positions: list[int]) -> pa.Table:
    """Rows at `positions`, as slices of whole runs: Arrow cannot filter or take every type (string_view)."""
    if positions == list(range(table.num_rows)):
        return table
    runs: list[list[int]] = []
    for position in positions:
        if runs and position == runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([position, position + 1])
    slices = [table.slice(start, end - start) for start, end in runs]
    return pa.concat_tables(slices) if slices else table.slice(0, 0)


def _arranged(table: pa.Table, fragment: Fragment, left_out: Mapping[str, str], context: RunContext) -> pa.Table:
    """Source columns in their order, then ours in that of the contract; metadata with the provenance, and what is said
    of the rows that are left out.
    """
    ours = [name for name in load_contract("annotations").types if name in context.written]
    source = [
        field.name
        for field in table.schema
        if field.name not in context.written and not field.name.startswith(INTERNAL) and not is_from_partition(field)
    ]
    said = {
        "schema": "annotations.v1",
        "fingerprint": context.fingerprint,
        "run": context.run_id,
        "source": fragment.source,
        "source_rows": str(fragment.file_rows),
        "rows": f"{fragment.row_start}-{fragment.row_end}",
        "content_id": fragment.content_id,
        **left_out,
        **context.metadata,
    }
    # Without the dead rows the index has gaps, and pandas ignores a range whose length is wrong.
    metadata = for_rows(table.schema.metadata, fragment.row_start, fragment.rows)
    return table.select([*source, *ours]).replace_schema_metadata(with_provenance(metadata, said))


def _commit(output: Storage, ready: _Prepared, context: RunContext) -> Committed:
    fragment = ready.fragment
    content = to_parquet(ready.table, context.compression)
    path = fragment.output_path(context.fingerprint)
    key = fragment.key(context.fingerprint)
    version = commit_file(output, key, path, content, fragment.replaces, lambda: _check(output, context))
    rows, dead, size, said = ready.table.num_rows, ready.dead, content.size, provenance(ready.table.schema)
    if version is None:
        file, footer = standing(output, path)
        said = provenance(footer.schema)
        version, rows, dead, size = file.version, footer.rows, count_in(said) or 0, file.size
    # They were there before, and may be again: what is derived follows what is committed.
    if dead or fragment.replaces is not None:
        _show(output, fragment, path, version, said, context)
    return Committed(
        path=path,
        source=fragment.source,
        rows=rows,
        dead=dead,
        bytes=size,
        version=version,
        duplicate_ids=ready.duplicate_ids,
        renamed=renamed_columns(ready.table.schema),
        forgotten=len(rows_in(said)),
    )


def _check(output: Storage, context: RunContext) -> None:
    if context.lease is not None and is_overtaken(output, context.lease):
        raise LeaseError(f"another run has taken over OUTPUT {output.url}")


def _show(
    output: Storage, fragment: Fragment, path: str, version: str, said: Mapping[str, str], context: RunContext
) -> None:
    """Derive the file of the letters, unless the output file is another by now, whose writer does it."""
    there = output.stat(path)
    if there is not None and there.version == version:
        show_letters(output, fragment.key(context.fingerprint), said)
