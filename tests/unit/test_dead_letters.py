"""Dead letters: one file a fragment or source file, by the contract."""

from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.base.contracts import load_contract
from luke_batch.corpus.dead_letters import (
    DeadLetter,
    letters_in,
    letters_table,
    packed,
    show_letters,
    write_file_dead_letter,
)
from luke_batch.corpus.fragments import Fragment
from luke_batch.corpus.output_file import Key
from luke_batch.corpus.storage import Storage
from tests.corpora import FINGERPRINT

FRAGMENT = Fragment("date=1/a.parquet", "date=1", 4, 8, "0123456789ab", 10, 100, 0)


def letter(row: int | None, message: str = "why") -> DeadLetter:
    """A letter of the fragment's file."""
    return DeadLetter(None if row is None else f"d{row}", FRAGMENT.source, row, "read", "FragmentError", message)


def show(storage: Storage, key: Key, letters: list[DeadLetter]) -> None:
    """Write the derived file of an output that holds these letters."""
    show_letters(storage, key, packed(letters_table(letters, key, "run1")))


@given(st.lists(st.builds(letter, st.integers(0, 2**40), st.text(max_size=50)), max_size=20))
def test_an_output_file_holds_letters_as_they_were(letters: list[DeadLetter]) -> None:
    """Whatever a message quotes; a file of a version that kept them apart tells nothing."""
    table = letters_table(letters, FRAGMENT.key(FINGERPRINT), "run1")
    found = letters_in(packed(table))
    assert found is not None
    assert found.to_pylist() == table.to_pylist()
    assert letters_in({}) is None


def test_letters_follow_the_contract(tmp_path: Path) -> None:
    """A file of dead letters has the columns of dead_letters.v1 and names fragment and run."""
    storage, key = Storage.at(str(tmp_path)), FRAGMENT.key(FINGERPRINT)
    show(storage, key, [letter(5), letter(7)])
    table = pq.ParquetFile(tmp_path / key.dead_letter_path).read()
    assert table.schema.equals(load_contract("dead_letters").schema())
    assert table["row"].to_pylist() == [5, 7]
    assert set(table["fragment"].to_pylist()) == {str(key)}
    assert set(table["run"].to_pylist()) == {"run1"}
    show(storage, key, [])
    show(storage, key, [])
    assert storage.list() == []


def test_a_file_has_one_letter(tmp_path: Path) -> None:
    """Letters for a whole file replace one another, and do not touch those of its fragments."""
    storage = Storage.at(str(tmp_path))
    show(storage, FRAGMENT.key(FINGERPRINT), [letter(5)])
    for run in ("run1", "run2"):
        key = write_file_dead_letter(storage, letter(None), FRAGMENT.content_id, FINGERPRINT, run)
    assert key == Key.of(FRAGMENT.source, FRAGMENT.content_id, FINGERPRINT)
    assert len(storage.list()) == 2
    (row,) = pq.ParquetFile(tmp_path / key.dead_letter_path).read().to_pylist()
    assert (row["id"], row["row"], row["run"]) == (None, None, "run2")


def test_long_messages_are_cut(tmp_path: Path) -> None:
    """A message that quotes a whole document does not fill the disk."""
    storage, key = Storage.at(str(tmp_path)), FRAGMENT.key(FINGERPRINT)
    show(storage, key, [letter(5, "x" * 10**6)])
    (message,) = pq.ParquetFile(tmp_path / key.dead_letter_path).read()["message"].to_pylist()
    assert len(message) == 2000
