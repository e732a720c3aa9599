"""An index without documents that were erased from its outputs: built anew, with nothing of before left beside it."""

from pathlib import Path

from luke_batch.corpus.traces import Traces
from luke_batch.index.vectors import read_rows
from luke_batch.index.versions import is_marked


def is_index(target: str) -> bool:
    """Whether a folder is that of an index."""
    return "://" not in target and is_marked(Path(target).expanduser())


def look_through_index(target: str, traces: Traces) -> None:
    """Look through every file of an index; of a vector table also through what its library reads out of it."""
    folder = Path(target).expanduser()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            traces.look(str(path), path.read_bytes())
        elif path.suffix == ".lance":
            traces.look_at(str(path), read_rows(path))
