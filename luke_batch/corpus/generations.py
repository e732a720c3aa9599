"""Generations of one source file: outputs that share content and fingerprint, and so belong together.

A reader shows one generation of a source file, and each of its rows once: the newest complete generation,
or the newest where none is complete. So while a run replaces a file, its old outputs are shown until the last
new one is committed.
"""

from collections.abc import Sequence

from luke_batch.corpus.committed import CommittedFile, of_generation, ranges_of
from luke_batch.corpus.footers import inspect
from luke_batch.corpus.ranges import covers
from luke_batch.corpus.storage import Storage

_ROWS_KEY = b"luke_batch.source_rows"


def shown(output: Storage, files: Sequence[CommittedFile]) -> list[CommittedFile]:
    """The outputs of one source file that a reader shows, in the order of their rows.

    Args:
        output: OUTPUT. files: all outputs of the source file, at least one.

    Raises:
        FragmentError: an output that must be asked for the number of its source's rows cannot be read.
    """
    generations = sorted({file.key.generation for file in files})
    if len(generations) == 1:
        return of_generation(files, generations[0])

    def rank(generation: tuple[str, str]) -> tuple[bool, float]:
        members = of_generation(files, generation)
        rows = _source_rows(output, members[0])
        complete = covers(ranges_of(members, generation), rows)
        return complete, max(member.file.modified for member in members)

    return of_generation(files, max(generations, key=rank))


def _source_rows(output: Storage, file: CommittedFile) -> int:
    metadata = inspect(output, file.file).schema.metadata or {}
    return int(metadata.get(_ROWS_KEY, b"-1"))
