"""What INPUT holds, by its footers, and a seeded sample of its documents.

The sample is systematic (Cochran, Sampling Techniques, chapter 8): all files are laid end to end and cut into
blocks of neighbouring rows, of which every k-th is taken from a random start. So each document is as likely
as any other, and each partition has its share. The blocks come in random order: a sample that is cut short is
a sample still.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

import numpy as np

from luke_batch.base.errors import ConfigError, FragmentError, InputError
from luke_batch.config import JobConfig
from luke_batch.corpus.checks import check_source
from luke_batch.corpus.footers import Footer, inspect_all
from luke_batch.corpus.fragments import Fragment, cut, schema_key
from luke_batch.corpus.restriction import Restriction, partition_values
from luke_batch.corpus.sources import SourceFile, list_sources
from luke_batch.corpus.storage import Storage

_BLOCK_ROWS = 16
_LEAST, _MOST = 64, 2000
"""Documents of a sample that is a share: fewer say little, and more only cost time."""


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
class CountedFile:
    """A source file that can be used."""

    source: SourceFile
    content_id: str
    schema: str
    """Key of its schema."""
    group_rows: tuple[int, ...]
    rows: int
    bytes: int
    """Uncompressed, by the footer."""
    fragments: int
    """Output files that it will have."""


@dataclass(frozen=True, slots=True)
class Census:
    """All of INPUT, or of the partitions that were asked for."""

    storage: Storage
    files: tuple[CountedFile, ...]
    bad: tuple[str, ...]
    """Why files cannot be used."""

    @property
    def documents(self) -> int:
        """In usable files."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Uncompressed bytes of usable files."""
        return sum(file.bytes for file in self.files)

    @property
    def fragments(self) -> int:
        """Output files that a run would write."""
        return sum(file.fragments for file in self.files)


def count(input: str, config: JobConfig, where: Restriction | None = None) -> Census:
    """Count the documents of INPUT; footers are read in parallel, and nothing else is.

    Raises:
        InputError: no file, none in those partitions, or none that can be used.
    """
    sources = list_sources(input)
    chosen = (where or Restriction()).select(sources.files)
    files: list[CountedFile] = []
    bad: list[str] = []
    for source, footer in zip(chosen, inspect_all(sources.storage, chosen), strict=True):
        try:
            if isinstance(footer, FragmentError):
                raise footer
            files.append(_counted(source, footer, config))
        except FragmentError as error:
            bad.append(str(error))
    if not files:
        others = f" (and {len(bad) - 1} more files)" if len(bad) > 1 else ""
        raise InputError(f"no file of INPUT can be used: {bad[0]}{others}")
    return Census(sources.storage, tuple(files), tuple(bad))


def draw(census: Census, rows: int, seed: int) -> list[tuple[Fragment, str]]:
    """Blocks of `rows` documents in all, up to a block more, as fragments with the keys of their schemas."""
    random = np.random.default_rng(seed)
    blocks = -(-min(rows, census.documents) // _BLOCK_ROWS)
    starts = list(accumulate((file.rows for file in census.files), initial=0))
    distance = -(-census.documents // _BLOCK_ROWS) / max(blocks, 1)
    offset = random.uniform(0, distance)
    drawn: list[tuple[Fragment, str]] = []
    for block in random.permutation(blocks):
        first = int(offset + block * distance) * _BLOCK_ROWS
        drawn.extend(_block(census.files, starts, first, min(first + _BLOCK_ROWS, census.documents)))
    return drawn


def _counted(source: SourceFile, footer: Footer, config: JobConfig) -> CountedFile:
    check_source(footer.schema, config, source.path, partition_values(source.partition))
    return CountedFile(
        source=source,
        content_id=footer.content_id,
        schema=schema_key(footer.schema),
        group_rows=footer.group_rows,
        rows=footer.rows,
        bytes=sum(footer.group_bytes),
        fragments=len(cut(source, footer, config.output.max_rows, config.output.max_bytes)),
    )


def _block(
    files: Sequence[CountedFile], starts: Sequence[int], first: int, last: int
) -> Iterator[tuple[Fragment, str]]:
    """Rows [first, last) of the files laid end to end, the n-th of which starts at `starts[n]`."""
    while first < last:
        # Of files that start at the same row, all but the last have no rows.
        number = bisect_right(starts, first, hi=len(files)) - 1
        file, begin = files[number], first - starts[number]
        end = min(last - starts[number], file.rows)
        groups = list(accumulate(file.group_rows, initial=0))
        fragment = Fragment(
            source=file.source.path,
            partition=file.source.partition,
            row_start=begin,
            row_end=end,
            content_id=file.content_id,
            file_rows=file.rows,
            bytes=file.bytes * (end - begin) // file.rows,
            group_start=groups[bisect_right(groups, begin) - 1],
        )
        yield fragment, file.schema
        first = starts[number] + end
