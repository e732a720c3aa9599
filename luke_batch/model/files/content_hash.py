"""SHA-256 of a set of files, each file read once a process."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path


def content_hash(files: Iterable[Path]) -> str:
    """Hex digest over names and contents; folder, order and times do not matter."""
    digest = hashlib.sha256()
    for file in sorted(set(files), key=lambda file: file.name):
        status = file.stat()
        digest.update(f"{file.name}\0{_file_digest(file, status.st_size, status.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _file_digest(file: Path, size: int, modified_ns: int) -> str:  # noqa: ARG001 - they key the cache
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
