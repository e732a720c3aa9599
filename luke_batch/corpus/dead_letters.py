"""Documents and files that could not be annotated: OUTPUT/_dead_letters, contract dead_letters.v1.

The dead letters of a fragment bear the name of its output file. A whole file has one letter, without a row,
under a name of its own: however many of its fragments fail, they write the same one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.contracts import load_contract
from luke_batch.corpus.fragments import file_key
from luke_batch.corpus.keys import Key
from luke_batch.corpus.layout import DEAD_LETTERS, join
from luke_batch.corpus.storage import Storage

RUN_KEY = b"luke_batch.run"
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


def dead_letter_table(letters: Sequence[DeadLetter], key: Key, run_id: str) -> pa.Table:
    """The letters as a table of dead_letters.v1; its metadata names the run."""
    schema = load_contract("dead_letters").schema()
    rows = [
        {
            **asdict(letter),
            "message": letter.message[:_MESSAGE_CHARACTERS],
            "fragment": str(key),
            "run": run_id,
        }
        for letter in letters
    ]
    return pa.Table.from_pylist(rows, schema=schema.with_metadata({RUN_KEY: run_id.encode()}))


def write_dead_letters(output: Storage, key: Key, letters: Sequence[DeadLetter], run_id: str) -> None:
    """Create or replace the letters of one fragment or file."""
    sink = pa.BufferOutputStream()
    pq.write_table(dead_letter_table(letters, key, run_id), sink, compression="zstd")
    output.write_atomic(dead_letter_path(key), sink.getvalue())


def write_file_dead_letter(output: Storage, letter: DeadLetter, content_id: str, fingerprint: str, run_id: str) -> Key:
    """The one letter of a whole file; returns its key."""
    key = file_key(letter.source, content_id, fingerprint)
    write_dead_letters(output, key, [letter], run_id)
    return key


def merge_dead_letters(output: Storage, paths: Sequence[str], key: Key) -> None:
    """Write the letters of several fragments as those of `key`, which holds all their rows; the files at
    `paths` stay. Each letter keeps its run.
    """
    if not paths:
        return
    tables = [pq.ParquetFile(pa.BufferReader(output.read_bytes(path))).read() for path in paths]
    merged = pa.concat_tables(tables)
    place = merged.schema.get_field_index("fragment")
    names = pa.array([str(key)] * merged.num_rows, pa.string())
    merged = merged.set_column(place, merged.schema.field(place), names)
    sink = pa.BufferOutputStream()
    pq.write_table(merged, sink, compression="zstd")
    output.write_atomic(dead_letter_path(key), sink.getvalue())


def remove_dead_letters(output: Storage, key: Key) -> None:
    """Remove the letters of one fragment or file, if there are any."""
    output.remove(dead_letter_path(key))


def dead_letter_path(key: Key) -> str:
    """Relative to OUTPUT."""
    return join(DEAD_LETTERS, key.name)
