"""Documents and files that could not be annotated: OUTPUT/_dead_letters, contract dead_letters.v1.

The dead letters of a fragment bear the name of its output file. A whole file has one letter, without a row,
under a name of its own: however many of its fragments fail, they write the same one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.contracts import load_contract
from luke_batch.corpus.output_file import Key, with_provenance
from luke_batch.corpus.storage import Storage

_MESSAGE_CHARACTERS = 2000
"""A message may quote input; a longer one is cut."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One document, or one file where `row` is None."""

    id: str | None
    source: str
    row: int | None
    stage: str
    error_class: str
    message: str


def write_dead_letters(output: Storage, key: Key, letters: Sequence[DeadLetter], run_id: str) -> None:
    """Replace the letters of one fragment or file, with none where there are none; their metadata names the run."""
    if not letters:
        output.remove(key.dead_letter_path)
        return
    own = {"fragment": str(key), "run": run_id}
    rows = [{**asdict(letter), "message": letter.message[:_MESSAGE_CHARACTERS], **own} for letter in letters]
    schema = load_contract("dead_letters").schema().with_metadata(with_provenance({}, {"run": run_id}))
    _write(output, key, pa.Table.from_pylist(rows, schema=schema))


def write_file_dead_letter(output: Storage, letter: DeadLetter, content_id: str, fingerprint: str, run_id: str) -> Key:
    """The one letter of a whole file; returns its key."""
    key = Key.of(letter.source, content_id, fingerprint)
    write_dead_letters(output, key, [letter], run_id)
    return key


def merge_dead_letters(output: Storage, paths: Sequence[str], key: Key) -> None:
    """Write the letters of several fragments as those of `key`, which holds all their rows; the files at
    `paths` stay. Each letter keeps its run.
    """
    if not paths:
        return
    merged = pa.concat_tables(pq.ParquetFile(pa.BufferReader(output.read_bytes(path))).read() for path in paths)
    place = merged.schema.get_field_index("fragment")
    names = pa.repeat(pa.scalar(str(key)), merged.num_rows)
    _write(output, key, merged.set_column(place, merged.schema.field(place), names))


def _write(output: Storage, key: Key, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    output.write_atomic(key.dead_letter_path, sink.getvalue())
