"""Documents and files that could not be annotated, contract dead_letters.v1.

The letters of a fragment are a part of its output file: they stand in its metadata, so that one atomic write commits
rows and letters together. OUTPUT/_dead_letters shows them to people and to other programs; it is derived, under the
name of the output file, and whatever a kill leaves there the next run makes equal to the output files again. A whole
file that could not be read has no output: its one letter stands there alone, without a row, under a name of its own.
However many of its fragments fail, they write the same one.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.contracts import load_contract
from luke_batch.corpus.output_file import Key, provenance, with_provenance
from luke_batch.corpus.storage import Storage

_MESSAGE_CHARACTERS = 2000
"""A message may quote input; a longer one is cut."""
_COUNT, _LETTERS = "dead", "dead_letters"
"""Names in an output file's metadata: how many letters it has, and what they say (Arrow IPC, zstd, base64)."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One document, or one file where `row` is None."""

    id: str | None
    source: str
    row: int | None
    stage: str
    error_class: str
    message: str


def letters_table(letters: Sequence[DeadLetter], key: Key, run_id: str) -> pa.Table:
    """The letters of one fragment or file as the contract has them; their metadata names the run."""
    own = {"fragment": str(key), "run": run_id}
    rows = [{**asdict(letter), "message": letter.message[:_MESSAGE_CHARACTERS], **own} for letter in letters]
    schema = load_contract("dead_letters").schema().with_metadata(with_provenance({}, {"run": run_id}))
    return pa.Table.from_pylist(rows, schema=schema)


def renamed(letters: pa.Table, key: Key) -> pa.Table:
    """The same letters as those of another fragment, which holds their rows too."""
    place = letters.schema.get_field_index("fragment")
    names = pa.repeat(pa.scalar(str(key)), letters.num_rows)
    return letters.set_column(place, letters.schema.field(place), names)


def packed(letters: pa.Table) -> dict[str, str]:
    """What an output file's metadata says of its letters; see `provenance`."""
    if not letters.num_rows:
        return {_COUNT: "0"}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, letters.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(letters.combine_chunks())
    return {_COUNT: str(letters.num_rows), _LETTERS: base64.b64encode(sink.getvalue()).decode()}


def letters_in(said: Mapping[str, str]) -> pa.Table | None:
    """The letters that an output file's provenance holds; None for a file of a version that kept them apart."""
    if _COUNT not in said:
        return None
    if _LETTERS not in said:
        return letters_table([], Key("", "", "", None), "")
    with pa.ipc.open_stream(base64.b64decode(said[_LETTERS])) as reader:
        return reader.read_all()


def without_letters(metadata: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Schema metadata that tells of no letters."""
    names = {name.encode() for name in (_COUNT, _LETTERS)}
    return {key: value for key, value in metadata.items() if key.removeprefix(b"luke_batch.") not in names}


def count_in(said: Mapping[str, str]) -> int | None:
    """How many letters an output file's provenance tells of; None for a file of a version that kept them apart."""
    return int(said[_COUNT]) if _COUNT in said else None


def mark_of(said: Mapping[str, str]) -> str:
    """Tells the letters of an output file, and the file that was derived of them, from others; "" without any."""
    return (
        hashlib.blake2b(said[_LETTERS].encode(), digest_size=8).hexdigest()
        if _LETTERS in said
        else said.get("letters", "")
    )


def show_letters(output: Storage, key: Key, said: Mapping[str, str]) -> None:
    """Make the derived file what the output file `key`, of which this is the provenance, says; none without letters."""
    letters = letters_in(said)
    assert letters is not None, "only files that hold their letters are shown"
    if letters.num_rows:
        _write(output, key, letters, {"letters": mark_of(said)})
    else:
        output.remove(key.dead_letter_path)


def write_file_dead_letter(output: Storage, letter: DeadLetter, content_id: str, fingerprint: str, run_id: str) -> Key:
    """The one letter of a whole file; returns its key."""
    key = Key.of(letter.source, content_id, fingerprint)
    _write(output, key, letters_table([letter], key, run_id), {})
    return key


def read_letters(output: Storage, path: str) -> pa.Table:
    """The letters of a derived file, or of a version that kept them apart."""
    return pq.ParquetFile(pa.BufferReader(output.read_bytes(path))).read()


def _write(output: Storage, key: Key, table: pa.Table, said: Mapping[str, str]) -> None:
    own = {"run": provenance(table.schema).get("run", ""), **said}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(with_provenance({}, own)), sink, compression="zstd")
    output.write_atomic(key.dead_letter_path, sink.getvalue())
