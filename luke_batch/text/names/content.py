"""Workers read the tables of names that were planned with, or refuse."""

from luke_batch.base.errors import InputError


def check_content(table: str, found: str, planned: str | None) -> None:
    """Raise InputError where the content of `table` (as messages name it) hashes to `found` and not to
    `planned`; None: to any.
    """
    if planned not in (None, found):
        raise InputError(
            f"{table}: on this machine its content hash is {found}, not {planned} as planned; it was changed"
            " since, or is another copy: run the same command again, or mend the copy"
        )
