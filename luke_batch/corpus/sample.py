"""What INPUT holds, by its footers, and a seeded sample of its documents.

The sample is systematic (Cochran, Sampling Techniques, chapter 8): all files are laid end to end and cut into
blocks of neighbouring rows, of which every k-th is taken from a random start. So each document is as likely
as any other, and each partition has its share. The blocks come in random order: a sample that is cut short is
a sample still.
"""

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Self

import numpy as np

from luke_batch.base.errors import ConfigError, FragmentError
from luke_batch.config import JobConfig
from luke_batch.corpus.checks import check_source
from luke_batch.corpus.footers import Trial, inspect_all
from luke_batch.corpus.fragments import Fragment, WorkItem, cut, pack, schema_key
from luke_batch.corpus.plan import refuse_unusable
from luke_batch.corpus.read import ReadItem
from luke_batch.corpus.sources import Restriction, list_sources, partition_values
from luke_batch.corpus.storage import Storage
from luke_batch.document.source import rename_collisions

ReadAll = Callable[[Sequence[WorkItem]], Iterator[ReadItem]]

_BLOCK_ROWS = 16
_LEAST, _MOST = 64, 2000
"""Documents of a sample that is a share: fewer say little, and more only cost time."""
_SEED = 0


@dataclass(frozen=True, slots=True)
class SampleSize:
    """How many documents a sample has: a share of the corpus within bounds, or a number."""

    share: float | None
    """Above 0, at most 1."""
    rows: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `1%` or `500`. ConfigError where it is neither."""
        number = text.strip().removesuffix("%")
        try:
            value = float(number) / 100 if text.strip().endswith("%") else int(number)
        except ValueError:
            value = 0
        if isinstance(value, float) and 0 < value <= 1:
            return cls(value)
        if isinstance(value, int) and value > 0:
            return cls(None, value)
        raise ConfigError(f"--sample {text}: expected a share such as 1%, or a number of documents such as 500")

    def of(self, documents: int) -> int:
        """Documents to take from so many."""
        wanted = self.rows if self.share is None else min(max(round(documents * self.share), _LEAST), _MOST)
        return min(wanted, documents)


@dataclass(frozen=True, slots=True)
class Census:
    """All of INPUT, or of the partitions that were asked for."""

    storage: Storage
    files: tuple[tuple[Fragment, str], ...]
    """Those that can be used, each as a whole, with the keys of their schemas."""
    fragments: int
    """Output files that a run would write."""
    bad: tuple[str, ...]
    """Why files cannot be used."""

    @property
    def documents(self) -> int:
        """In usable files."""
        return sum(file.rows for file, _ in self.files)

    @property
    def bytes(self) -> int:
        """Uncompressed bytes of usable files."""
        return sum(file.bytes for file, _ in self.files)


def count(input: str, config: JobConfig, where: Restriction | None = None, trial: Trial | None = None) -> Census:
    """Count the documents of INPUT; footers are read in parallel, and nothing else is. `trial` as for a plan.

    Raises:
        InputError: no file, none in those partitions, or none that can be used.
    """
    sources = list_sources(input)
    chosen = (where or Restriction()).select(sources.files)
    files: list[tuple[Fragment, str]] = []
    bad: list[str] = []
    fragments = 0
    for source, footer in zip(chosen, inspect_all(sources.storage, chosen, trial=trial), strict=True):
        try:
            if isinstance(footer, FragmentError):
                raise footer
            check_source(footer.schema, config, source.path, partition_values(source.partition))
        except FragmentError as error:
            bad.append(str(error))
        else:
            (whole,) = cut(source, footer, sys.maxsize, sys.maxsize)
            files.append((whole, schema_key(footer.schema)))
            fragments += len(cut(source, footer, config.output.max_rows, config.output.max_bytes))
    refuse_unusable(bad, len(chosen))
    return Census(sources.storage, tuple(files), fragments, tuple(bad))


def sample(census: Census, rows: int, together: int, config: JobConfig, read_all: ReadAll) -> Iterator[ReadItem]:
    """Some documents of INPUT, about `together` of them at a time, as the first stage gets them: columns whose
    names we write are renamed. Always the same ones for the same corpus. `read_all` reads their work items.
    """
    for read in read_all(pack(draw(census, rows, _SEED), together, config.output.max_bytes)):
        yield replace(read, table=rename_collisions(read.table, config.columns))


def draw(census: Census, rows: int, seed: int) -> list[tuple[Fragment, str]]:
    """Blocks of `rows` documents in all, up to a block more, as fragments with the keys of their schemas."""
    random = np.random.default_rng(seed)
    starts = list(accumulate((file.rows for file, _ in census.files), initial=0))
    documents = starts[-1]
    blocks = -(-min(rows, documents) // _BLOCK_ROWS)
    distance = -(-documents // _BLOCK_ROWS) / max(blocks, 1)
    offset = random.uniform(0, distance)
    drawn: list[tuple[Fragment, str]] = []
    for block in random.permutation(blocks):
        first = int(offset + block * distance) * _BLOCK_ROWS
        last = min(first + _BLOCK_ROWS, documents)
        while first < last:
            # Of files that start at the same row, all but the last have no rows.
            number = bisect_right(starts, first, hi=len(census.files)) - 1
            file, schema = census.files[number]
            end = min(last, starts[number + 1])
            drawn.append((file.part(first - starts[number], end - starts[number]), schema))
            first = end
    return drawn
