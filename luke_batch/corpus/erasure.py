"""Erases documents from OUTPUT: from rows, dead letters, superseded and temporary files, and manifests.

    1. the ids go, hashed, to the list of those that later runs leave out
    2. each file that holds one of them is replaced by one without, as a commit is: other rows stay bit for bit
    3. whatever derives from these follows
    4. every file is looked through for ids and texts (`luke_batch.corpus.traces`)

Killed at any moment, the same command goes on: what is done is done, and the last step finds what is not.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.errors import LeaseError, OutputError
from luke_batch.config import InputConfig
from luke_batch.corpus.commit import gather
from luke_batch.corpus.committed import CommittedFile, list_data, list_dead_letters
from luke_batch.corpus.compaction import read_output
from luke_batch.corpus.dead_letters import letters_in, letters_table, packed, show_letters, without_letters
from luke_batch.corpus.forgotten import read_forgotten, rows_in, told, write_forgotten
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.manifest import latest_manifest
from luke_batch.corpus.output_file import Key, provenance, to_parquet, with_provenance
from luke_batch.corpus.storage import RUNS, TEMPORARY, Storage, StoredFile
from luke_batch.corpus.traces import Traces
from luke_batch.document.source import readable

_GONE = "[forgotten]"
"""Stands in a manifest where a message quoted a document."""


@dataclass(slots=True)
class Erased:
    """What was found of the documents, and where it is gone now."""

    ids: set[str] = field(default_factory=lambda: set[str]())
    """Those that OUTPUT held."""
    texts: set[str] = field(default_factory=lambda: set[str]())
    """Their texts, as far as OUTPUT held them."""
    documents: int = 0
    letters: int = 0
    files: int = 0
    """Files that were replaced or removed."""

    def add(self, other: "Erased") -> None:
        """Count what was erased elsewhere."""
        self.ids |= other.ids
        self.texts |= other.texts
        self.documents += other.documents
        self.letters += other.letters
        self.files += other.files

    def counts(self) -> dict[str, int]:
        """Without any id or text."""
        return {"documents": self.documents, "dead_letters": self.letters, "files": self.files}


def erase(output: Storage, ids: Collection[str], lease: Lease) -> Erased:
    """Erase the documents of these ids; nothing is looked through yet.

    Raises:
        OutputError: OUTPUT holds no finished run, or a file of it cannot be read.
        LeaseError: a run is at work on it.
    """
    source = input_of(output)
    lease.take()
    write_forgotten(output, read_forgotten(output).with_ids(ids))
    erased, wanted = Erased(), frozenset(ids)
    listed = list_data(output)
    letters = {each.key: each for files in list_dead_letters(output).values() for each in files}
    for files in listed.committed.values():
        for file in files:
            _erase_rows(output, file, letters.get(file.key), wanted, source, erased, lease)
    for file in (*listed.torn, *output.list(".part", under=TEMPORARY)):
        output.remove(file.path)
        erased.files += 1
    for key, file in letters.items():
        _erase_letters(output, key, file, wanted, erased)
    for file in output.list(".json", under=RUNS):
        _erase_quotes(output, file, erased.ids | wanted, erased)
    return erased


def look_through(outputs: Sequence[Storage], traces: Traces) -> None:
    """Look through every file of some OUTPUTs, for what no other document of theirs has too."""
    for output in outputs:
        columns = input_of(output)
        for files in list_data(output).committed.values():
            for file in files:
                table, _ = read_output(output, file)
                traces.leave_out(table[text_column(table, columns)])
    for output in outputs:
        for file in output.list():
            traces.look(f"{output.url}/{file.path}", output.read_bytes(file.path))


def input_of(output: Storage) -> InputConfig:
    """Which columns of OUTPUT hold ids and texts, as its last run read them."""
    last = latest_manifest(output, lambda run: bool(run.config))
    if last is None:
        raise OutputError(f"OUTPUT {output.url} has no run that tells its id column; name the OUTPUT of `annotate`")
    return InputConfig.model_validate(last.config.get("input") or {})


def _erase_rows(
    output: Storage,
    file: CommittedFile,
    apart: CommittedFile | None,
    wanted: Collection[str],
    source: InputConfig,
    erased: Erased,
    lease: Lease,
) -> None:
    table, codec = read_output(output, file)
    said = provenance(table.schema)
    letters = letters_in(said)
    if letters is None:  # of a version that kept them apart
        letters = letters_table([], file.key, "")
        if apart is not None:
            letters = pq.ParquetFile(pa.BufferReader(output.read_bytes(apart.path))).read()
    dead = cast("list[int]", letters["row"].to_pylist())
    gone = rows_in(said)
    rows = sorted(set(range(*file.rows)) - set(dead) - set(gone))
    if len(rows) != table.num_rows:
        raise OutputError(f"OUTPUT {output.url}: {file.path} does not hold what its name tells of; run the job again")
    names = ids_of(table, rows, said.get("source", ""), source)
    kept = [place for place, name in enumerate(names) if name not in wanted]
    mine = [place for place, name in enumerate(letters["id"].to_pylist()) if name not in wanted]
    if len(kept) == table.num_rows and len(mine) == letters.num_rows:
        return
    hits = sorted(set(range(table.num_rows)) - set(kept))
    erased.documents += len(hits)
    erased.letters += letters.num_rows - len(mine)
    erased.ids |= {str(names[place]) for place in hits}
    erased.texts |= {text for text in _texts(table, hits, source) if text}
    forgotten = [*gone, *(rows[place] for place in hits), *(row for n, row in enumerate(dead) if n not in set(mine))]
    metadata = without_letters(table.schema.metadata or {})
    metadata = with_provenance(metadata, {**packed(gather(letters, mine)), **told(forgotten)})
    left = gather(table, kept).replace_schema_metadata(metadata)
    lease.check()
    if output.put(file.path, to_parquet(left, codec), file.file.version) is None:
        raise LeaseError(f"OUTPUT {output.url}: {file.path} was changed by another run; run the same command again")
    show_letters(output, file.key, provenance(left.schema))
    erased.files += 1


def ids_of(table: pa.Table, rows: Sequence[int], source: str, columns: InputConfig) -> list[str | None]:
    """The id of each row of an output: of its id column, or `<path>#<row>`."""
    if columns.id_column is None:
        return [f"{source}#{row}" for row in rows]
    name = f"source_{columns.id_column}" if columns.id_column not in table.column_names else columns.id_column
    values = [readable(value) for value in table[name]]
    return [None if value is None else str(value) for value in values]


def _texts(table: pa.Table, places: Sequence[int], columns: InputConfig) -> Iterator[str | None]:
    name = text_column(table, columns)
    for place in places:
        yield readable(table[name][place])


def text_column(table: pa.Table, columns: InputConfig) -> str:
    """The column of an output that holds the texts."""
    return columns.text_column if columns.text_column in table.column_names else f"source_{columns.text_column}"


def _erase_letters(output: Storage, key: Key, file: CommittedFile, wanted: Collection[str], erased: Erased) -> None:
    """Letters whose output is gone, and those of whole files, which name no document."""
    if output.stat(file.path) is None or key.rows is None:
        return
    table = pq.ParquetFile(pa.BufferReader(output.read_bytes(file.path))).read()
    kept = [place for place, name in enumerate(table["id"].to_pylist()) if name not in wanted]
    if len(kept) == table.num_rows:
        return
    erased.letters += table.num_rows - len(kept)
    erased.files += 1
    show_letters(output, key, {**provenance(table.schema), **packed(gather(table, kept))})


def _erase_quotes(output: Storage, file: StoredFile, ids: Collection[str], erased: Erased) -> None:
    """Messages of a manifest that quote a document or name it."""
    try:
        content = json.loads(output.read_bytes(file.path))
    except ValueError:
        return
    needles = [*(id for id in ids if len(id) >= _LEAST_ID), *erased.texts]
    changed = _without(content, needles)
    if changed != content:
        output.write_atomic(file.path, json.dumps(changed, indent=2, ensure_ascii=False).encode())
        erased.files += 1


_LEAST_ID = 6
"""Characters of an id that is looked for inside of other text; a shorter one is found in anything."""


def _without(value: Any, needles: Sequence[str]) -> Any:
    if isinstance(value, str):
        for needle in needles:
            value = value.replace(needle, _GONE)
        return value
    if isinstance(value, list):
        return [_without(each, needles) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {
            _without(name, needles): _without(each, needles) for name, each in cast("dict[str, Any]", value).items()
        }
    return value
