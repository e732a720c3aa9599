"""What must hold once a run has ended with exit code 0, whatever happened before."""

import os
import time

import pyarrow as pa
import pyarrow.dataset as ds

import luke_batch
from luke_batch.corpus.committed import list_data
from luke_batch.corpus.lease import running
from luke_batch.corpus.storage import DATA, DEAD_LETTERS, LEASES, TEMPORARY, Storage
from tests.chaos.annotation import Job
from tests.integration.conftest import assert_same_rows

_HOURS = 3 * 3600


def assert_as_undisturbed(job: Job, expected: pa.Table) -> None:
    """The dataset and the glob hold the rows of an undisturbed run, each (file, row) once; nothing is left
    over, and the next night has nothing to do and removes the temporary files of killed writers.
    """
    storage = job.storage
    assert_same_rows(luke_batch.read(job.output).to_table(), expected)
    _assert_glob(storage, expected)
    assert storage.list(under=DEAD_LETTERS) == []
    assert running(storage) is None
    before = _names(storage)
    _age_temporary_files(storage)
    later = job.start()
    assert later.end() == 0, later.said()
    assert "Nothing to do" in later.said()
    assert _names(storage) == before
    assert storage.list(under=TEMPORARY) == []
    assert len(storage.list(under=LEASES)) == 1


def _assert_glob(storage: Storage, expected: pa.Table) -> None:
    files = [storage.absolute(file.path) for file in storage.list(".parquet", under=DATA)]
    ids = ds.dataset(files, filesystem=storage.arrow_filesystem).to_table(columns=["id"])["id"].to_pylist()
    assert sorted(ids) == sorted(expected["id"].to_pylist())
    listing = list_data(storage)
    assert (listing.torn, listing.foreign) == ((), ())


def _names(storage: Storage) -> list[tuple[str, str]]:
    return [(file.path, file.version) for file in storage.list(under=DATA)]


def _age_temporary_files(storage: Storage) -> None:
    """They are left alone for an hour, as their writer may live."""
    then = time.time() - _HOURS
    for file in storage.list(under=TEMPORARY) if storage.is_local else []:
        os.utime(storage.absolute(file.path), (then, then))
