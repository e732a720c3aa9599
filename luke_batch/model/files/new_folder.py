"""A model folder that appears whole or not at all."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from luke_batch.base.errors import CheckpointError


def check_destination(destination: Path) -> None:
    """CheckpointError where `destination` exists and is not an empty folder."""
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise CheckpointError(f"{destination}: exists and is not an empty folder; choose another destination")


@contextmanager
def new_folder(destination: Path) -> Generator[Path]:
    """An empty folder beside `destination` that takes its place at the end, and vanishes on an error.

    Raises CheckpointError as `check_destination` does, and where the folder cannot be written.
    """
    check_destination(destination)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    except OSError as error:
        raise CheckpointError(
            f"{destination}: cannot be written ({error.strerror}); choose another destination"
        ) from error
    try:
        yield temporary
        for file in temporary.iterdir():
            file.chmod(0o644)
        temporary.chmod(0o755)
        temporary.rename(destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
