"""Files of names: how they are opened, and whether they are those that were planned with."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import fsspec

from luke_batch.base.errors import InputError, LukeBatchError, MissingDependencyError


@contextmanager
def opened(what: str, path: str) -> Generator[Any]:
    """The bytes of `path`, a local file or a URL that fsspec knows; raises as `readable` does."""
    with readable(what, path), fsspec.open(path, "rb") as file:
        yield file


@contextmanager
def readable(what: str, path: str) -> Generator[None]:
    """Whatever keeps `path`, which messages call `what`, from being read as InputError, or as MissingDependencyError
    where its URL needs a library that is not installed.
    """
    try:
        yield
    except LukeBatchError:
        raise
    except ImportError as error:
        protocol = path.partition("://")[0]
        raise MissingDependencyError(
            f"{what}: the fsspec library for {protocol}:// is not installed ({error})"
        ) from error
    except Exception as error:  # each store has its own bases, botocore's among them
        cause = " ".join(str(error).split())
        raise InputError(f"{what}: cannot be read ({cause}); check the path, the access rights and the file") from error


def check_content(what: str, found: str, planned: str | None) -> None:
    """Raise InputError where the content of `what` hashes to `found` and not to `planned`; None: to any. So workers
    read the tables that were planned with, or refuse.
    """
    if planned not in (None, found):
        raise InputError(
            f"{what}: on this machine its content hash is {found}, not {planned} as planned; it was changed"
            " since, or is another copy: run the same command again, or mend the copy"
        )
