"""What must hold once a run has ended with exit code 0, whatever happened before."""

import os
import time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

import luke_batch
from luke_batch.corpus.committed import list_data
from luke_batch.corpus.lease import running
from luke_batch.corpus.storage import DATA, DEAD_LETTERS, LEASES, TEMPORARY, Storage
from tests.chaos.annotation import Job
from tests.chaos.corpus import Corpus
from tests.integration.conftest import assert_same_rows

_HOURS = 3 * 3600


def assert_as_undisturbed(job: Job, corpus: Corpus) -> None:
    """Rows and letters are the documents, each once, and the dataset and the glob hold the rows of an undisturbed
    run; nothing is left over, and the next night has nothing to do and removes the temporary files of killed
    writers.
    """
    storage = job.storage
    assert_each_once(job, corpus)
    assert running(storage) is None
    before = _names(storage)
    _age_temporary_files(storage)
    later = job.start()
    assert later.end() == 0, later.said()
    assert "Nothing to do" in later.said()
    assert _names(storage) == before
    assert storage.list(under=TEMPORARY) == []
    assert 1 <= len(storage.list(under=LEASES)) <= 2  # a run that was overtaken writes its own once more


def assert_each_once(job: Job, corpus: Corpus) -> None:
    """Rows + letters = documents, each once; a row is that of an undisturbed run, and a letter that of a document
    that may fail.
    """
    found, letters = luke_batch.read(job.output).to_table(), letters_of(job.storage)
    rows = found["id"].to_pylist()
    assert files_with_letters(job.storage) == []
    assert sorted([*rows, *letters]) == sorted(corpus.ids())
    assert corpus.ids("-always") <= set(letters) <= corpus.ids("-always") | corpus.ids("-ill") | corpus.ids("-once")
    undisturbed = corpus.annotated.filter(pc.field("id").isin(rows))
    assert_same_rows(found, undisturbed)
    _assert_glob(job.storage, rows)


def assert_replayed(job: Job, corpus: Corpus) -> None:
    """A replay leaves the letters of documents that fail in every run, and no others."""
    replay = job.start(command="replay")
    assert replay.end() == 0, replay.said()
    assert_each_once(job, corpus)
    assert set(letters_of(job.storage)) == corpus.ids("-always")


def lost(job: Job, corpus: Corpus) -> set[str]:
    """Documents that are neither a row nor a letter."""
    return (
        corpus.ids()
        - {*luke_batch.read(job.output).to_table(columns=["id"])["id"].to_pylist()}
        - {*letters_of(job.storage)}
    )


def letters_of(storage: Storage) -> list[str]:
    """Ids of the documents in the dead letters."""
    return [letter["id"] for letter in _letters(storage) if letter["row"] is not None]


def files_with_letters(storage: Storage) -> list[str]:
    """Sources of which a part could not be read: their letters go once it can."""
    return [letter["source"] for letter in _letters(storage) if letter["row"] is None]


def _letters(storage: Storage) -> list[dict[str, Any]]:
    files = [storage.read_bytes(file.path) for file in storage.list(".parquet", under=DEAD_LETTERS)]
    return [letter for file in files for letter in pq.read_table(pa.BufferReader(file)).to_pylist()]


def _assert_glob(storage: Storage, expected: list[str]) -> None:
    files = [storage.absolute(file.path) for file in storage.list(".parquet", under=DATA)]
    ids = ds.dataset(files, filesystem=storage.arrow_filesystem).to_table(columns=["id"])["id"].to_pylist()
    assert sorted(ids) == sorted(expected)
    listing = list_data(storage)
    assert (listing.torn, listing.foreign) == ((), ())


def _names(storage: Storage) -> list[tuple[str, str]]:
    return [(file.path, file.version) for file in storage.list(under=DATA)]


def _age_temporary_files(storage: Storage) -> None:
    """They are left alone for an hour, as their writer may live."""
    then = time.time() - _HOURS
    for file in storage.list(under=TEMPORARY) if storage.is_local else []:
        os.utime(storage.absolute(file.path), (then, then))
