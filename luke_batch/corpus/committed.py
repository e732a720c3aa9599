"""What OUTPUT holds, by its names alone, and on a local disk by whether a file has its end.

Outputs of one source file that share content and fingerprint are a generation. Of overlapping ones the tiling
counts: disjoint ranges that hold the most rows. A reader shows one generation of a source file, and each of
its rows once: the newest complete generation, or the newest where none is complete. So while a run replaces a
file, its old outputs are shown until the last new one is committed.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from luke_batch.base.errors import OutputError
from luke_batch.corpus.footers import SMALLEST, inspect, is_whole
from luke_batch.corpus.held import Held, held_by, read_known
from luke_batch.corpus.output_file import Generation, Key, Range, generation_of, path_hash, provenance
from luke_batch.corpus.storage import DATA, DEAD_LETTERS, Storage, StoredFile


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """An output file or a dead-letter file with what its name says."""

    key: Key
    file: StoredFile

    @property
    def path(self) -> str:
        """Relative to OUTPUT."""
        return self.file.path

    @property
    def partition(self) -> str:
        """`key=value` folders of an output file."""
        return self.file.partition

    @property
    def rows(self) -> Range:
        """Of the source file; (0, 0) for the dead letter of a whole file."""
        return self.key.rows or (0, 0)

    @property
    def is_of_file(self) -> bool:
        """Whether it is the dead letter of a whole file."""
        return self.key.rows is None


BySource = dict[str, list[CommittedFile]]
"""Files by `path_hash` of their source, sorted by path."""


@dataclass(frozen=True, slots=True)
class OutputListing:
    """What OUTPUT held at one moment."""

    committed: BySource
    """Committed fragments."""
    torn: tuple[StoredFile, ...] = ()
    """Files in OUTPUT/data under names of ours that are no whole Parquet files: they commit nothing."""
    foreign: tuple[StoredFile, ...] = ()
    """Files in OUTPUT/data that no run has written: other names, or folders that are no partitions."""
    letters: BySource = field(default_factory=lambda: BySource())
    """Dead-letter files, those of whole files included."""
    short: BySource = field(default_factory=lambda: BySource())
    """Files in OUTPUT/data that lack rows which their names tell of: they commit nothing."""
    held: Mapping[str, Held] = field(default_factory=lambda: dict[str, Held]())
    """What each committed file holds, by its path; empty in a listing of data alone."""
    opened: int = 0
    """Files whose footers were read for that."""

    def outputs_of(self, source: str) -> list[CommittedFile]:
        """All outputs of a source file, by its path in INPUT."""
        return self.committed.get(path_hash(source), [])

    def current(self, source: str, content_id: str, fingerprint: str) -> list[CommittedFile]:
        """Outputs of this content of a source file under this fingerprint, which hold each row once."""
        return of_generation(self.outputs_of(source), generation_of(content_id, fingerprint))

    def short_of(self, source: str) -> list[CommittedFile]:
        """The files of a source file that lack rows, by its path in INPUT."""
        return self.short.get(path_hash(source), [])

    def dead(self, file: CommittedFile) -> int:
        """How many dead letters a committed file has."""
        return self.held[file.path].dead

    def letters_of(self, source: str) -> list[CommittedFile]:
        """All dead-letter files of a source file, by its path in INPUT."""
        return self.letters.get(path_hash(source), [])

    def beside(self, sources: Iterable[str]) -> "OutputListing":
        """What it holds of other source files than these."""
        known = {path_hash(source) for source in sources}
        committed, letters, short = (
            {source: files for source, files in each.items() if source not in known}
            for each in (self.committed, self.letters, self.short)
        )
        return replace(self, committed=committed, letters=letters, short=short)


def list_output(output: Storage, known: Mapping[str, Held] | None = None) -> OutputListing:
    """List OUTPUT, and hold each file to what its name says.

    known: what files are known to hold, beside what earlier runs noted; others are opened.
    """
    listed, letters = list_data(output), list_dead_letters(output)
    files = [file for each in listed.committed.values() for file in each]
    of_rows = {file.key: file.file for each in letters.values() for file in each if not file.is_of_file}
    known = {**read_known(output), **(known or {})}
    held = held_by(output, [(each.key, each.file) for each in files], of_rows, known)
    short = {file.path for file in files if not held[file.path].is_all_of(file.key)}
    return replace(
        listed,
        committed=_parted(listed.committed, lambda file: file.path not in short),
        short=_parted(listed.committed, lambda file: file.path in short),
        letters=letters,
        held=held,
        opened=sum(known.get(path) != each for path, each in held.items()),
    )


def _parted(files: BySource, wanted: Callable[[CommittedFile], bool]) -> BySource:
    parts = {source: [file for file in each if wanted(file)] for source, each in files.items()}
    return {source: each for source, each in parts.items() if each}


def list_or_refuse(output: Storage) -> OutputListing:
    """List OUTPUT; OutputError where that fails. One that does not exist yet is empty."""
    try:
        return list_output(output)
    except OSError as error:
        raise OutputError(f"OUTPUT {output.url} cannot be listed: {error}") from error


def list_data(output: Storage) -> OutputListing:
    """List OUTPUT/data, and no dead letters."""
    found: defaultdict[str, list[CommittedFile]] = defaultdict(list)
    torn: list[StoredFile] = []
    foreign: list[StoredFile] = []
    for file in output.list(".parquet", under=DATA):
        key = Key.parse(file.path)
        if key is None or key.rows is None or file.path != key.output_path(file.partition):
            foreign.append(file)
        elif (whole := is_whole(output, file)) is not None:
            if whole:
                found[key.path].append(CommittedFile(key, file))
            else:
                torn.append(file)
    return OutputListing(dict(found), tuple(torn), tuple(foreign))


def list_dead_letters(output: Storage) -> BySource:
    """The dead-letter files of OUTPUT."""
    found: defaultdict[str, list[CommittedFile]] = defaultdict(list)
    for file in output.list(".parquet", under=DEAD_LETTERS):
        key = Key.parse(file.path)
        if key is not None and file.size >= SMALLEST:
            found[key.path].append(CommittedFile(key, file))
    return dict(found)


def of_generation(files: Iterable[CommittedFile], generation: Generation) -> list[CommittedFile]:
    """Outputs of one generation that hold each row once, in the order of their rows: see `tiling`."""
    by_rows: dict[Range, CommittedFile] = {}
    for file in files:
        if file.key.generation == generation and file.key.rows is not None:
            by_rows.setdefault(file.key.rows, file)
    return [by_rows[rows] for rows in tiling(by_rows)]


def is_complete(files: Iterable[CommittedFile], rows: int) -> bool:
    """Whether `of_generation` has found every row of a source file."""
    return covers((file.rows for file in files), rows)


def most_rows(files: Sequence[CommittedFile]) -> int:
    """Rows of the generation of one source file that has the most."""
    if len(files) == 1:
        return files[0].rows[1] - files[0].rows[0]
    generations = {file.key.generation for file in files}
    return max(sum(end - start for start, end in (each.rows for each in of_generation(files, g))) for g in generations)


def shown(output: Storage, files: Sequence[CommittedFile]) -> list[CommittedFile]:
    """The outputs of one source file that a reader shows, in the order of their rows.

    Args:
        output: OUTPUT. files: all outputs of the source file.

    Raises:
        FragmentError: an output that must be asked for the number of its source's rows cannot be read.
    """
    generations = [of_generation(files, each) for each in sorted({file.key.generation for file in files})]

    def rank(members: Sequence[CommittedFile]) -> tuple[bool, float]:
        rows = int(provenance(inspect(output, members[0].file).schema).get("source_rows", "-1"))
        return is_complete(members, rows), max(member.file.modified for member in members)

    return max(generations, key=rank) if len(generations) > 1 else next(iter(generations), [])


def gaps(ranges: Iterable[Range], start: int, end: int) -> list[Range]:
    """The parts of [start, end) that no range of `ranges` covers, ascending."""
    left: list[Range] = []
    for first, last in sorted(ranges):
        if first >= end:
            break
        if first > start:
            left.append((start, first))
        start = max(start, last)
    if start < end:
        left.append((start, end))
    return left


def covers(ranges: Iterable[Range], rows: int) -> bool:
    """Whether `ranges` hold every row of a file; one without rows needs its one empty range."""
    known = list(ranges)
    return bool(known) and not gaps(known, 0, rows)


def tiling(ranges: Iterable[Range]) -> list[Range]:
    """Disjoint ranges among `ranges` that hold the most rows, and of such sets one of the fewest; ascending.

    Ranges overlap where a file was cut in two ways at once, or while adjacent outputs are being merged.
    Weighted interval scheduling (Kleinberg and Tardos, Algorithm Design, 6.1), O(n log n).
    """
    by_start = sorted(set(ranges))
    if all(before[1] <= after[0] for before, after in pairwise(by_start)):
        return by_start
    known = sorted(by_start, key=lambda each: (each[1], each[0]))
    ends = [end for _, end in known]
    best = [(0, 0)]
    """(rows, -ranges) that the first n ranges allow."""
    before: list[int] = []
    """Number of ranges that end where the n-th begins, or earlier."""
    for number, (start, end) in enumerate(known):
        place = bisect_right(ends, start, hi=number)
        before.append(place)
        rows, count = best[place]
        best.append(max(best[number], (rows + end - start, count - 1)))
    chosen: list[Range] = []
    number = len(known)
    while number:
        if best[number] == best[number - 1]:
            number -= 1
        else:
            chosen.append(known[number - 1])
            number = before[number - 1]
    return chosen[::-1]
