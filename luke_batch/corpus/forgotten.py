"""Documents that OUTPUT was told to forget: they stay out of it for as long as their source file holds them.

    OUTPUT/_luke_batch/forgotten.json     a salt, and the salted hashes of their ids

No id can be read from it; a commit asks it of each of its documents and leaves out those that it knows. Which rows of
a fragment are gone, its output file says (`luke_batch.forgotten`, their numbers in the source file), so that rows, dead
letters and forgotten rows are as many as its name tells of.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from luke_batch.base.errors import OutputError
from luke_batch.corpus.storage import STATE, Storage

FORGOTTEN = f"{STATE}/forgotten.json"
_ROWS = "forgotten"
"""Name in an output file's metadata."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Ids by their salted hashes."""

    salt: str = ""
    hashes: frozenset[str] = frozenset()

    def __contains__(self, id: object) -> bool:
        return bool(self.hashes) and id is not None and self._hash(str(id)) in self.hashes

    def with_ids(self, ids: Iterable[str]) -> "Forgotten":
        """Those and these."""
        salted = Forgotten(self.salt or secrets.token_hex(16))
        return Forgotten(salted.salt, self.hashes | {salted._hash(id) for id in ids})

    def _hash(self, id: str) -> str:
        text = f"{self.salt} {id}".encode("utf-8", "surrogateescape")
        return hashlib.blake2b(text, digest_size=16).hexdigest()


def read_forgotten(output: Storage) -> Forgotten:
    """What OUTPUT was told. OutputError where that cannot be read: documents would come back."""
    try:
        if output.stat(FORGOTTEN) is None:
            return Forgotten()
        content = json.loads(output.read_bytes(FORGOTTEN))
        return Forgotten(str(content["salt"]), frozenset(map(str, content["hashes"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"OUTPUT {output.url}: {FORGOTTEN} cannot be read ({error}), and documents that were to be forgotten would"
            " come back; restore it"
        ) from error


def write_forgotten(output: Storage, forgotten: Forgotten) -> None:
    """Replace what OUTPUT was told."""
    content = {"salt": forgotten.salt, "hashes": sorted(forgotten.hashes)}
    output.write_atomic(FORGOTTEN, json.dumps(content).encode())


def told(rows: Sequence[int]) -> dict[str, str]:
    """What an output file's metadata says of its forgotten rows; see `provenance`."""
    return {_ROWS: json.dumps(sorted(rows))} if rows else {}


def rows_in(said: Mapping[str, str]) -> list[int]:
    """The forgotten rows of an output file, by its provenance."""
    return [int(row) for row in json.loads(said.get(_ROWS, "[]"))]
