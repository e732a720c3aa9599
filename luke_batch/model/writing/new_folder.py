"""A model folder that appears whole or not at all."""

import json
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.reading import read_object


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


VOCABULARY = "entity_vocab.json"
INLINE = "tokenizer_config.json"
"""Where transformers 5 keeps it, under the key `entity_vocab`."""


def write_vocabulary(folder: Path, vocabulary: Mapping[str, int], size: int) -> None:
    """Titles and their ids into the folder's files, and `size`, the rows of the entity table."""
    inline = read_object(folder / INLINE) if (folder / INLINE).exists() else {}
    if "entity_vocab" in inline:
        _write(folder / INLINE, {**inline, "entity_vocab": vocabulary})
    if "entity_vocab" not in inline or (folder / VOCABULARY).exists():
        _write(folder / VOCABULARY, vocabulary)
    _write(folder / "config.json", {**read_object(folder / "config.json"), "entity_vocab_size": size})


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
