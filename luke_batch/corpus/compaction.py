"""Fewer, larger output files: adjacent row ranges of one source file become one.

A name tells rows of one source file, so files of different sources are never merged: a corpus of many tiny
sources keeps one output for each. The merged file is committed first, with the dead letters of its parts;
then the parts are removed. In between a reader takes the merged one (see `committed.tiling`), and whatever a
crash leaves behind the next run or compaction removes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.errors import IncompleteError, OutputError
from luke_batch.corpus.attempts import commit_file, standing
from luke_batch.corpus.committed import CommittedFile, list_or_refuse, of_generation
from luke_batch.corpus.dead_letters import (
    count_in,
    letters_in,
    letters_table,
    packed,
    read_letters,
    renamed,
    show_letters,
    without_letters,
)
from luke_batch.corpus.forgotten import rows_in, told
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.output_file import Key, for_rows, provenance, to_parquet, with_provenance
from luke_batch.corpus.storage import Storage

_AT_ONCE = 1000
"""Parts that are removed together: one request of an object store."""


@dataclass(slots=True)
class Compaction:
    """What a compaction has done."""

    sources: int = 0
    """Source files whose outputs were merged."""
    before: int = 0
    """Committed files of OUTPUT before."""
    after: int = 0
    skipped: int = 0
    """Source files that a run has begun to replace: they are left to the run that finishes it."""
    bytes: int = 0
    """Size of the merged files."""
    removed: int = 0
    """Files whose rows the merged ones hold, and their dead letters."""


def compact(output: Storage, lease: Lease, target_bytes: int) -> Compaction:
    """Merge outputs up to `target_bytes` of stored size each; a merge holds that much, decoded, in memory.

    Raises:
        OutputError: OUTPUT cannot be listed, or an output cannot be read; nothing of it is removed.
        LeaseError: a run is at work on OUTPUT.
        IncompleteError: everything is merged, but not every part can be removed; the next run tries it again.
    """
    listed = list_or_refuse(output)
    if not listed.committed:
        raise OutputError(f"OUTPUT {output.url} holds no committed file")
    done = Compaction()
    parts: list[str] = []
    """Of what is committed as merged files: outputs before their letters."""
    for source, files in listed.committed.items():
        letters = listed.letters.get(source, [])
        done.before += len(files)
        if len({file.key.generation for file in files}) > 1:
            done.skipped += 1
            done.after += len(files)
            continue
        groups = list(_groups(of_generation(files, files[0].key.generation), target_bytes))
        if len(groups) < len(files):
            lease.take()
            done.sources += 1
            for group in groups:
                if len(group) > 1:
                    done.bytes += _merge(output, group, letters, lease)
            kept = {_merged_key(group) for group in groups}
            apart = (letter for letter in letters if not letter.is_of_file)
            parts += [file.path for file in (*files, *apart) if file.key not in kept]
            if len(parts) >= _AT_ONCE:
                _remove(output, lease, parts, done)
        done.after += len(groups)
    _remove(output, lease, parts, done)
    return done


def _remove(output: Storage, lease: Lease, parts: list[str], done: Compaction) -> None:
    if parts:
        lease.check()
    refused = output.remove_all(parts)
    if refused:
        path, cause = next(iter(refused.items()))
        raise IncompleteError(
            f"OUTPUT {output.url}: {len(refused):,} merged files cannot be removed, such as {path}: {cause};"
            " once they can, the next run or compaction removes them"
        )
    done.removed += len(parts)
    parts.clear()


def _groups(files: Sequence[CommittedFile], target_bytes: int) -> Iterator[list[CommittedFile]]:
    """Adjacent files in groups of at most `target_bytes`, as long as the rows follow one another."""
    group: list[CommittedFile] = []
    for file in files:
        size = sum(each.file.size for each in group) + file.file.size
        if group and (size > target_bytes or group[-1].rows[1] != file.rows[0]):
            yield group
            group = []
        group.append(file)
    if group:
        yield group


def _merge(output: Storage, group: Sequence[CommittedFile], letters: Sequence[CommittedFile], lease: Lease) -> int:
    """Commit the rows of `group` as one file; its size in bytes."""
    read = [read_output(output, file) for file in group]
    tables = [table for table, _ in read]
    first: pa.Schema = tables[0].schema
    for table, file in zip(tables, group, strict=True):
        if not table.schema.equals(first):
            raise OutputError(
                f"OUTPUT {output.url}: {file.path} has other columns than {group[0].path}, though"
                " both have rows of one source; remove both and run the job again"
            )
    key = _merged_key(group)
    start, end = key.rows or (0, 0)
    runs = {run for each in tables for run in provenance(each.schema).get("run", "").split(",")}
    metadata = for_rows(first.metadata, 0, end - start)  # the first file's index begins where ours does
    older = {file.key for file, table in zip(group, tables, strict=True) if count_in(provenance(table.schema)) is None}
    dead = _letters(output, key, tables, [each for each in letters if each.key in older])
    said = {"rows": f"{start}-{end}", "run": ",".join(sorted(runs)), **packed(dead)}
    said |= told([row for table in tables for row in rows_in(provenance(table.schema))])
    metadata = with_provenance(without_letters(metadata), said)
    whole = pa.concat_tables([each.replace_schema_metadata(metadata) for each in tables])
    content = to_parquet(whole, read[0][1])
    path = key.output_path(group[0].partition)
    said, size = provenance(whole.schema), content.size
    if commit_file(output, key, path, content, None, lease.check) is None:  # a compaction was killed after this
        file, footer = standing(output, path)
        said, size = provenance(footer.schema), file.size
    show_letters(output, key, said)
    return size


def _letters(output: Storage, key: Key, tables: Sequence[pa.Table], apart: Sequence[CommittedFile]) -> pa.Table:
    """Those of all parts as letters of the merged rows; `apart`: the files of those that older parts do not hold."""
    held = [letters_in(provenance(table.schema)) for table in tables]
    parts = [letters for letters in held if letters is not None and letters.num_rows]
    parts += [read_letters(output, file.path) for file in apart]
    empty = letters_table([], key, "")
    return renamed(pa.concat_tables([empty, *(part.cast(empty.schema) for part in parts)]), key)


def _merged_key(group: Sequence[CommittedFile]) -> Key:
    return replace(group[0].key, rows=(group[0].rows[0], group[-1].rows[1]))


def read_output(output: Storage, file: CommittedFile) -> tuple[pa.Table, str]:
    """The rows of an output, and its codec as `to_parquet` names it."""
    try:
        with output.open(file.path) as source:
            parquet = pq.ParquetFile(source, page_checksum_verification=True)
            metadata = parquet.metadata
            codec = metadata.row_group(0).column(0).compression if metadata.num_row_groups else "ZSTD"
            return parquet.read(), "none" if codec == "UNCOMPRESSED" else codec.lower()
    except (OSError, pa.ArrowException) as error:
        cause = " ".join(str(error).split())
        raise OutputError(
            f"OUTPUT {output.url}: {file.path} cannot be read: {cause}; remove that file and run the job again"
        ) from error
