"""What a run has to do: INPUT's footers against OUTPUT's names. Planning writes nothing.

States of a source file:

    done      every row is committed under this content and fingerprint, however the file was cut
    new       nothing of this path is committed, or a part of it under this very content and fingerprint
    changed   other content is committed
    stale     this content is committed under another fingerprint
    bad       the file cannot be used
    vanished  committed, but no longer in INPUT
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from luke_batch.base.errors import FragmentError, InputError, OutputError
from luke_batch.config import JobConfig
from luke_batch.corpus.checks import check_source
from luke_batch.corpus.committed import (
    CommittedFile,
    list_output,
    of_generation,
    ranges_of,
)
from luke_batch.corpus.footers import CONTENT_ID_CHARACTERS, Footer, content_hash, inspect_all
from luke_batch.corpus.fragments import Fragment, WorkItem, cut, file_key, schema_key, work_items
from luke_batch.corpus.keys import Key, path_hash, short_fingerprint
from luke_batch.corpus.known_footers import KnownFooter, is_settled, read_known_footers
from luke_batch.corpus.layout import DATA, join
from luke_batch.corpus.ranges import covers
from luke_batch.corpus.restriction import Restriction, partition_values
from luke_batch.corpus.sources import SourceFile, Sources, list_sources
from luke_batch.corpus.storage import Storage

State = Literal["new", "changed", "stale", "done", "bad", "vanished"]
STATES: tuple[State, ...] = ("new", "changed", "stale", "done", "bad", "vanished")


@dataclass(slots=True)
class Tally:
    """Counts of one state; for `new`, `changed` and `stale`, of what is still to be done."""

    files: int = 0
    fragments: int = 0
    rows: int = 0
    bytes: int = 0
    """Uncompressed bytes of source; stored bytes of output where the source is gone or cannot be read."""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A source file that can be used."""

    path: str
    content_id: str
    rows: int
    state: State


@dataclass(frozen=True, slots=True)
class BadFile:
    """A source file that cannot be used, and why."""

    path: str
    content_id: str
    stage: Literal["plan", "read"]
    error_class: str
    message: str
    reported: bool
    """Its dead letter exists already."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The state of INPUT and OUTPUT, and the work between them."""

    source: Storage
    output: Storage
    fingerprint: str
    items: tuple[WorkItem, ...]
    files: tuple[PlannedFile, ...]
    bad: tuple[BadFile, ...]
    done: tuple[Key, ...]
    """Committed fragments of the present content and fingerprint."""
    tallies: Mapping[str, Tally]
    """By state; in a replay `replayed` alone."""
    where: Restriction
    """The partitions that the plan is about; it says nothing of others."""
    on_vanished: Literal["keep", "prune"]
    known: Mapping[str, KnownFooter]
    """For `write_known_footers`: the usable files, and those that an earlier plan knew outside of `where`."""
    footers_read: int

    @property
    def nothing_to_do(self) -> bool:
        """No fragment to annotate and no bad file to report."""
        return not self.items and all(bad.reported for bad in self.bad)

    @property
    def rows(self) -> int:
        """Documents in the usable files of INPUT."""
        return sum(file.rows for file in self.files)


@dataclass(slots=True)
class _Draft:
    """A plan in the making."""

    config: JobConfig
    fingerprint: str
    files: list[PlannedFile] = field(default_factory=lambda: list[PlannedFile]())
    bad: list[BadFile] = field(default_factory=lambda: list[BadFile]())
    done: list[Key] = field(default_factory=lambda: list[Key]())
    todo: list[tuple[Fragment, str]] = field(default_factory=lambda: list[tuple[Fragment, str]]())
    tallies: dict[str, Tally] = field(default_factory=lambda: {state: Tally() for state in STATES})
    known: dict[str, KnownFooter] = field(default_factory=lambda: dict[str, KnownFooter]())

    def count(self, state: State, fragments: int, rows: int, size: int) -> None:
        tally = self.tallies[state]
        tally.files += 1
        tally.fragments += fragments
        tally.rows += rows
        tally.bytes += size

    def generation(self, content_id: str) -> tuple[str, str]:
        """That of outputs of this content."""
        return content_id, short_fingerprint(self.fingerprint)


def make_plan(
    input: str, output: Storage, config: JobConfig, fingerprint: str, where: Restriction | None = None
) -> Plan:
    """Compare INPUT with OUTPUT, or with `where` the partitions of both that it names.

    Raises:
        InputError: no file, none in those partitions, or none that can be used.
        OutputError: OUTPUT cannot be listed, or lies inside INPUT.
    """
    where = where or Restriction()
    listed = time.time()
    sources = list_sources(input)
    _check_apart(sources, output)
    files = where.select(sources.files)
    try:
        found = list_output(output)
    except OSError as error:
        raise OutputError(f"OUTPUT {output.url} cannot be listed: {error}") from error
    reported = {str(letter.key) for letters in found.letters.values() for letter in letters}
    known, committed = read_known_footers(output), found.data.committed
    draft = _Draft(config, fingerprint)
    if where:
        draft.known.update(known)
    by_path = {file.path: committed.pop(path_hash(file.path), []) for file in files}
    opened = [file for file in files if not _add_known(draft, file, known.get(file.path), by_path[file.path])]
    for source, footer in zip(opened, inspect_all(sources.storage, opened), strict=True):
        draft.known.pop(source.path, None)
        try:
            if isinstance(footer, FragmentError):
                raise footer
            _add(draft, source, footer, by_path[source.path])
        except FragmentError as error:
            _add_bad(draft, source, footer, error, reported)
        else:
            if is_settled(source, listed):
                draft.known[source.path] = _known(source, footer)
    if len(draft.bad) == len(files):
        others = f" (and {len(draft.bad) - 1} more files)" if len(draft.bad) > 1 else ""
        raise InputError(f"no file of INPUT can be used: {draft.bad[0].message}{others}")
    _count_vanished(draft, [gone for gone in committed.values() if where.matches(gone[0].partition)])
    return Plan(
        source=sources.storage,
        output=output,
        fingerprint=fingerprint,
        items=tuple(work_items(draft.todo, config.output.max_rows, config.output.max_bytes)),
        files=tuple(sorted(draft.files, key=lambda file: file.path)),
        bad=tuple(draft.bad),
        done=tuple(draft.done),
        tallies=draft.tallies,
        where=where,
        on_vanished=config.output.on_vanished,
        known=draft.known,
        footers_read=len(opened),
    )


def _count_vanished(draft: _Draft, vanished: Sequence[Sequence[CommittedFile]]) -> None:
    for gone in vanished:
        rows = sum(end - start for start, end in (file.key.rows or (0, 0) for file in gone))
        draft.count("vanished", len(gone), rows, sum(file.file.size for file in gone))


def _add_known(
    draft: _Draft, source: SourceFile, known: KnownFooter | None, committed: Sequence[CommittedFile]
) -> bool:
    """Add a file that is done by what its footer said before; False where the footer must be read."""
    if known is None or not known.is_of(source):
        return False
    current = of_generation(committed, draft.generation(known.content_id))
    if not covers((file.key.rows for file in current if file.key.rows), known.rows):
        return False
    _add_done(draft, source, known, current)
    draft.known[source.path] = known
    return True


def _known(source: SourceFile, footer: Footer) -> KnownFooter:
    size = sum(footer.group_bytes)
    return KnownFooter(source.size, source.version, footer.content_id, footer.rows, size)


def _add(draft: _Draft, source: SourceFile, footer: Footer, committed: Sequence[CommittedFile]) -> None:
    """Add a readable file to the plan; FragmentError where its columns do not fit."""
    generation = draft.generation(footer.content_id)
    current = of_generation(committed, generation)
    covered = ranges_of(current, generation)
    if covers(covered, footer.rows):
        _add_done(draft, source, _known(source, footer), current)
        return
    schema, output = footer.schema, draft.config.output
    check_source(schema, draft.config, source.path, partition_values(source.partition))
    whole = cut(source, footer, output.max_rows, output.max_bytes)
    left = [part for fragment in whole for part in fragment.without(covered)]
    state = _state(committed, footer.content_id, generation)
    draft.count(state, len(left), sum(part.rows for part in left), sum(part.bytes for part in left))
    kind = schema_key(schema)
    draft.todo.extend((part, kind) for part in left)
    draft.done.extend(file.key for file in current)
    draft.files.append(PlannedFile(source.path, footer.content_id, footer.rows, state))


def _add_done(draft: _Draft, source: SourceFile, known: KnownFooter, current: Sequence[CommittedFile]) -> None:
    draft.count("done", len(current), known.rows, known.bytes)
    draft.done.extend(file.key for file in current)
    draft.files.append(PlannedFile(source.path, known.content_id, known.rows, "done"))


def _state(known: Sequence[CommittedFile], content_id: str, generation: tuple[str, str]) -> State:
    """State of a file that is not completely committed."""
    older = [file.key for file in known if file.key.generation != generation]
    if not older:
        return "new"
    return "stale" if any(key.content_id == content_id for key in older) else "changed"


def _add_bad(
    draft: _Draft,
    source: SourceFile,
    footer: Footer | FragmentError,
    error: FragmentError,
    reported: set[str],
) -> None:
    unreadable = isinstance(footer, FragmentError)
    # Without a footer, the version stands in: a file that is mended in place gets another id.
    content_id = (
        content_hash((b"unreadable", str(source.size).encode(), source.version.encode()))
        if unreadable
        else footer.content_id
    )
    known = str(file_key(source.path, content_id, draft.fingerprint)) in reported
    stage: Literal["plan", "read"] = "read" if unreadable else "plan"
    draft.bad.append(BadFile(source.path, content_id, stage, type(error).__name__, str(error), known))
    draft.count("bad", 0, 0, source.size)


def _check_apart(sources: Sources, output: Storage) -> None:
    """Outputs must never be taken for input on the next night, so a glob is asked before there are any."""
    if sources.storage.is_local != output.is_local:
        return
    top, root = sources.storage.root.rstrip("/") + "/", output.root.rstrip("/") + "/"
    if not root.startswith(top):
        return
    below = root.removeprefix(top)
    partitions = {"", *(file.partition for file in sources.files)}
    name = file_key("", "0" * CONTENT_ID_CHARACTERS, "0").name
    if sources.is_folder or any(sources.includes(below + join(DATA, partition, name)) for partition in partitions):
        raise OutputError(
            f"OUTPUT {output.url} lies inside INPUT, so that its files would be read as input; choose another folder"
        )
