"""Names of output files. A name tells the whole commit: which rows of which content, under which fingerprint.

Output files and the dead letters of their rows, then the dead letter of a whole file:

    <hash of path>-<row start>-<row end>-<content id>-<fingerprint>.parquet
    <hash of path>-file-<content id>-<fingerprint>.parquet
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from luke_batch.corpus.footers import CONTENT_ID_CHARACTERS

_FINGERPRINT_CHARACTERS = 12
_NAME = re.compile(
    rf"([0-9a-f]{{16}})-(?:(\d{{12}})-(\d{{12}})|file)-([0-9a-f]{{{CONTENT_ID_CHARACTERS}}})"
    rf"-([0-9A-Za-z]{{1,{_FINGERPRINT_CHARACTERS}}})"
)


def path_hash(path: str) -> str:
    """16 hexadecimal characters that stand for a source path relative to INPUT."""
    return hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def short_fingerprint(fingerprint: str) -> str:
    """As much of a fingerprint as names hold."""
    return fingerprint[:_FINGERPRINT_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Key:
    """What a name says."""

    path: str
    """`path_hash` of the source file."""
    content_id: str
    fingerprint: str
    """Shortened."""
    rows: tuple[int, int] | None
    """[start, end) in the source file; None for the whole file."""

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The key of a file name, with or without folders and suffix; None for a name that is not ours."""
        found = _NAME.fullmatch(name.rpartition("/")[2].removesuffix(".parquet"))
        if found is None:
            return None
        path, start, end, content_id, fingerprint = found.groups()
        return cls(path, content_id, fingerprint, None if start is None else (int(start), int(end)))

    def __str__(self) -> str:
        rows = "file" if self.rows is None else f"{self.rows[0]:012d}-{self.rows[1]:012d}"
        return f"{self.path}-{rows}-{self.content_id}-{self.fingerprint}"

    @property
    def name(self) -> str:
        """Name of the output file or dead-letter file."""
        return f"{self}.parquet"

    @property
    def generation(self) -> tuple[str, str]:
        """Content and fingerprint: outputs of one source file that belong together."""
        return self.content_id, self.fingerprint
