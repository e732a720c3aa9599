"""Which content a file of INPUT has, where its footer alone does not say.

A footer names the content of a file unless somebody has replaced values by others of the same length. Such an
edit changes the file's version (see `StoredFile`). So where that is not the one of an earlier night and the
footer is, all bytes are hashed and compared with the hash from then:

    equal       it was touched, copied or moved: the content id stays
    other       it was edited: the content id becomes that of footer and bytes, and stays so
    no hash     nobody had read the bytes before the version changed: taken for edited, once

The hash of the bytes is taken at the end of the run that first has the file, of no more files than fit into
`NOTING_SECONDS`; the others get theirs on the next nights.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

from luke_batch.base.errors import FragmentError
from luke_batch.corpus.footers import Footer, KnownFooter, content_hash, is_settled
from luke_batch.corpus.storage import Storage, StoredFile

NOTING_SECONDS = 600.0
_BLOCK = 4 * 2**20
_LOCAL_THREADS = 4
_REMOTE_THREADS = 16


def digest_of(storage: Storage, path: str) -> str:
    """Hash of all bytes of a file, read in blocks. OSError where it cannot be read."""
    hashed = hashlib.blake2b(digest_size=16)
    for block in storage.blocks(path, _BLOCK):
        hashed.update(block)
    return hashed.hexdigest()


@dataclass(frozen=True, slots=True)
class Contents:
    """What is known of INPUT's contents when a plan is made."""

    source: Storage
    known: Mapping[str, KnownFooter]
    """By path, of earlier nights."""
    committed: Callable[[str], Iterable[str]]
    """The content ids under which OUTPUT has a path."""
    listed: float
    """When INPUT was listed, in seconds since the epoch."""

    def resolve(self, file: StoredFile, footer: Footer) -> Footer:
        """The footer with the content id of the file, and with the hash of its bytes where that took one.

        Raises FragmentError where the bytes have to be read and cannot be.
        """
        known = self.known.get(file.path)
        if known is not None and known.is_of(file):
            return replace(footer, content_id=known.content_id, digest=known.digest)
        of_footer = known is not None and known.footer_id == footer.footer_id
        # Without a note, an edit of before is told by its name in OUTPUT.
        committed = set(self.committed(file.path)) - {footer.footer_id} if known is None else set[str]()
        if not of_footer and not committed and is_settled(file, self.listed):
            return footer
        try:
            digest = digest_of(self.source, file.path)
        except OSError as error:
            raise FragmentError(f"{file.path} cannot be read: {' '.join(str(error).split())}") from error
        edited = edited_id(footer.footer_id, digest)
        content_id = footer.footer_id
        if known is not None and of_footer:
            content_id = known.content_id if digest == known.digest else edited
        elif edited in committed:
            content_id = edited
        return replace(footer, content_id=content_id, digest=digest)


def edited_id(footer_id: str, digest: str) -> str:
    """The content id of a file that was edited without a trace in its footer."""
    return content_hash(b"edited", footer_id.encode(), digest.encode())


def with_digests(source: Storage, known: Mapping[str, KnownFooter], usable: Iterable[str]) -> dict[str, KnownFooter]:
    """`known` with the hashes of those `usable` files that have none and are still as they were planned."""
    noted = dict(known)
    end = time.monotonic() + NOTING_SECONDS

    def digest(path: str) -> tuple[str, str | None]:
        with suppress(OSError):
            if time.monotonic() < end:
                found = digest_of(source, path)
                # A write while it was read would have changed the version by now.
                if (file := source.stat(path)) is not None and noted[path].is_of(file):
                    return path, found
        return path, None

    lacking = [path for path in usable if path in noted and noted[path].digest is None]
    if lacking:
        with ThreadPoolExecutor(_LOCAL_THREADS if source.is_local else _REMOTE_THREADS) as pool:
            for path, found in pool.map(digest, lacking):
                noted[path] = replace(noted[path], digest=found)
    return noted
