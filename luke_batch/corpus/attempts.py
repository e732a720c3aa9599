"""Of several attempts at one output file the first that holds all of its rows stays.

A work item may be at work twice: Ray tries it again while the first attempt lives on, or a run goes on that was
overtaken. So an output file is created, or it replaces that version of it which the attempt began with; what else is
found there is left alone, unless it lacks rows.
"""

from collections.abc import Callable

import pyarrow as pa

from luke_batch.base.errors import LeaseError
from luke_batch.corpus.footers import Footer, inspect
from luke_batch.corpus.held import held_by
from luke_batch.corpus.output_file import Key
from luke_batch.corpus.storage import Storage, StoredFile

_TRIES = 5
"""Looks at an output file that others change."""


def commit_file(
    output: Storage, key: Key, path: str, content: pa.Buffer, replaces: str | None, check: Callable[[], None]
) -> str | None:
    """Write the output file of `key`: its version. None where another attempt has committed these rows in the meantime.

    Args:
        output: OUTPUT. path: of the output file. content: its bytes. replaces: version of the file that is to be
        replaced, None for a new one. check: raises where another run has taken over; asked before each look.

    Raises:
        LeaseError: what `check` raises, or the file changes all the time.
    """
    for _ in range(_TRIES):
        check()
        version = output.put(path, content, replaces)
        if version is not None:
            return version
        there = output.stat(path)
        if there is None:
            replaces = None
            continue
        (held,) = held_by(output, [(key, there)], {}, {}).values()
        if held.mark is not None and held.is_all_of(key):
            return None
        replaces = there.version
    raise LeaseError(f"OUTPUT {output.url}: {path} changes all the time; another run is at work on it")


def standing(output: Storage, path: str) -> tuple[StoredFile, Footer]:
    """The output file that another attempt has committed."""
    file = output.stat(path)
    if file is None:
        raise LeaseError(
            f"OUTPUT {output.url}: {path} was removed while it was looked at; another run is at work on it"
        )
    return file, inspect(output, file)
