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
from dataclasses import dataclass, field, replace
from typing import Literal

from luke_batch.base.errors import FragmentError, InputError, OutputError
from luke_batch.config import JobConfig
from luke_batch.corpus.checks import check_source
from luke_batch.corpus.committed import CommittedFile, OutputListing, is_complete, list_or_refuse, most_rows
from luke_batch.corpus.edits import Contents
from luke_batch.corpus.footers import (
    CONTENT_ID_CHARACTERS,
    Footer,
    KnownFooter,
    Trial,
    content_hash,
    inspect_all,
    is_settled,
    read_known_footers,
)
from luke_batch.corpus.fragments import Fragment, WorkItem, cut, schema_key, work_items
from luke_batch.corpus.output_file import Generation, Key, generation_of, path_hash
from luke_batch.corpus.sources import Restriction, Sources, list_sources, partition_values
from luke_batch.corpus.storage import Storage, StoredFile

State = Literal["new", "changed", "stale", "done", "bad", "vanished"]
STATES: tuple[State, ...] = ("new", "changed", "stale", "done", "bad", "vanished")


@dataclass(slots=True)
class StateCounts:
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
    tallies: Mapping[str, StateCounts]
    """By state; in a replay `replayed` alone."""
    where: Restriction
    """The partitions that the plan is about; it says nothing of others."""
    on_vanished: Literal["keep", "prune"]
    vanished_limit: float
    committed_rows: int
    """Documents in OUTPUT, of each source file those of its fullest generation."""
    known: Mapping[str, KnownFooter]
    """For `write_known_footers`: the usable files, and those that an earlier plan knew outside of `where`."""
    footers_read: int
    hashed: int
    """Files whose bytes were read, because their footer did not say which content they have."""
    short: int = 0
    """Files of OUTPUT that lack rows which their names tell of; they are done again."""

    @property
    def nothing_to_do(self) -> bool:
        """No fragment to annotate and no bad file to report."""
        return not self.items and all(bad.reported for bad in self.bad)

    @property
    def rows(self) -> int:
        """Documents in the usable files of INPUT."""
        return sum(file.rows for file in self.files)


def make_plan(
    input: str,
    output: Storage,
    config: JobConfig,
    fingerprint: str,
    where: Restriction | None = None,
    trial: Trial | None = None,
) -> Plan:
    """Compare INPUT with OUTPUT, or with `where` the partitions of both that it names.

    trial: asked before the footer of a source file is parsed; None: they are trusted.

    Raises:
        InputError: no file, none in those partitions, or none that can be used.
        OutputError: OUTPUT cannot be listed, or lies inside INPUT.
    """
    where = where or Restriction()
    now = time.time()
    sources = list_sources(input)
    _check_apart(sources, output)
    files = where.select(sources.files)
    listed = list_or_refuse(output)
    known = read_known_footers(output)
    draft = _Draft(config, fingerprint, listed, known=dict(known) if where else {})
    opened: list[StoredFile] = []
    for file in files:
        footer = known.get(file.path)
        if footer is None or not footer.is_of(file) or not draft.add_done(file, footer):
            draft.known.pop(file.path, None)
            opened.append(file)
    contents = Contents(sources.storage, known, lambda path: {f.key.content_id for f in listed.outputs_of(path)}, now)
    footers = inspect_all(sources.storage, opened, contents.resolve, trial)
    for file, footer in zip(opened, footers, strict=True):
        draft.hashed += not isinstance(footer, FragmentError) and footer.digest is not None
        try:
            draft.add(file, footer)
        except FragmentError as error:
            draft.add_bad(file, footer, error)
            continue
        if not is_settled(file, now):
            draft.known[file.path] = replace(draft.known[file.path], version="")
    refuse_unusable([bad.message for bad in draft.bad], len(files))
    return Plan(
        source=sources.storage,
        output=output,
        fingerprint=fingerprint,
        items=tuple(work_items(draft.todo, config.output.max_rows, config.output.max_bytes)),
        files=tuple(sorted(draft.files, key=lambda file: file.path)),
        bad=tuple(draft.bad),
        tallies=draft.tallies,
        where=where,
        on_vanished=config.output.on_vanished,
        vanished_limit=config.output.vanished_limit,
        committed_rows=draft.count_committed({path_hash(file.path) for file in files}, where),
        known=draft.known,
        footers_read=len(opened),
        hashed=draft.hashed,
        short=sum(where.matches(file.partition) for each in listed.short.values() for file in each),
    )


def refuse_unusable(reasons: Sequence[str], files: int) -> None:
    """InputError where so many reasons against files are against all of them."""
    if len(reasons) == files:
        others = f" (and {files - 1} more files)" if files > 1 else ""
        raise InputError(f"no file of INPUT can be used: {reasons[0]}{others}")


@dataclass(slots=True)
class _Draft:
    """A plan in the making."""

    config: JobConfig
    fingerprint: str
    listed: OutputListing
    known: dict[str, KnownFooter]
    hashed: int = 0
    files: list[PlannedFile] = field(default_factory=lambda: list[PlannedFile]())
    bad: list[BadFile] = field(default_factory=lambda: list[BadFile]())
    todo: list[tuple[Fragment, str]] = field(default_factory=lambda: list[tuple[Fragment, str]]())
    tallies: dict[str, StateCounts] = field(default_factory=lambda: {state: StateCounts() for state in STATES})

    def count(self, state: State, fragments: int, rows: int, size: int) -> None:
        counts = self.tallies[state]
        counts.files += 1
        counts.fragments += fragments
        counts.rows += rows
        counts.bytes += size

    def add_done(self, source: StoredFile, known: KnownFooter) -> bool:
        """Add a file of which all is committed; False where something is left to do."""
        current = self.listed.current(source.path, known.content_id, self.fingerprint)
        done = is_complete(current, known.rows)
        if done:
            self._add_usable(source, known, "done", len(current), known.rows, known.bytes)
        return done

    def add(self, source: StoredFile, footer: Footer | FragmentError) -> None:
        """Add a file whose footer was read; FragmentError where it cannot be used."""
        if isinstance(footer, FragmentError):
            raise footer
        known = KnownFooter(
            size=source.size,
            version=source.version,
            content_id=footer.content_id,
            rows=footer.rows,
            bytes=sum(footer.group_bytes),
            footer_id=footer.footer_id,
            digest=footer.digest,
        )
        if self.add_done(source, known):
            return
        schema, limits = footer.schema, self.config.output
        check_source(schema, self.config, source.path, partition_values(source.partition))
        covered = [file.rows for file in self.listed.current(source.path, footer.content_id, self.fingerprint)]
        whole = cut(source, footer, limits.max_rows, limits.max_bytes)
        left = [part for fragment in whole for part in fragment.without(covered)]
        rows, size = sum(part.rows for part in left), sum(part.bytes for part in left)
        state = _state(self.listed.outputs_of(source.path), generation_of(footer.content_id, self.fingerprint))
        self._add_usable(source, known, state, len(left), rows, size)
        kind = schema_key(schema)
        self.todo.extend((part, kind) for part in left)

    def count_committed(self, present: set[str], where: Restriction) -> int:
        """Documents in OUTPUT; those of files that are not `present`, by their path hashes, have vanished."""
        committed_rows = 0
        for source, outputs in self.listed.committed.items():
            if where.matches(outputs[0].partition):
                rows = most_rows(outputs)
                committed_rows += rows
                if source not in present:
                    self.count("vanished", len(outputs), rows, sum(file.file.size for file in outputs))
        return committed_rows

    def add_bad(self, source: StoredFile, footer: Footer | FragmentError, error: FragmentError) -> None:
        """Add a file that cannot be used."""
        if isinstance(footer, FragmentError):
            # Without a footer, the version stands in: a file that is mended in place gets another id.
            stage, content_id = "read", content_hash(b"unreadable", str(source.size).encode(), source.version.encode())
        else:
            stage, content_id = "plan", footer.content_id
        key = Key.of(source.path, content_id, self.fingerprint)
        reported = any(letter.key == key for letter in self.listed.letters_of(source.path))
        self.bad.append(BadFile(source.path, content_id, stage, type(error).__name__, str(error), reported))
        self.count("bad", 0, 0, source.size)

    def _add_usable(
        self, source: StoredFile, known: KnownFooter, state: State, fragments: int, rows: int, size: int
    ) -> None:
        self.count(state, fragments, rows, size)
        self.files.append(PlannedFile(source.path, known.content_id, known.rows, state))
        self.known[source.path] = known


def _state(committed: Sequence[CommittedFile], generation: Generation) -> State:
    """State of a file that is not completely committed."""
    older = [file.key for file in committed if file.key.generation != generation]
    if not older:
        return "new"
    return "stale" if any(key.content_id == generation[0] for key in older) else "changed"


def _check_apart(sources: Sources, output: Storage) -> None:
    """Outputs must never be taken for input on the next night, so a glob is asked before there are any."""
    if sources.storage.is_local != output.is_local:
        return
    top, root = sources.storage.root.rstrip("/") + "/", output.root.rstrip("/") + "/"
    if not root.startswith(top):
        return
    below = root.removeprefix(top)
    partitions = {"", *(file.partition for file in sources.files)}
    key = Key.of("", "0" * CONTENT_ID_CHARACTERS, "0")
    if sources.is_folder or any(sources.includes(below + key.output_path(partition)) for partition in partitions):
        raise OutputError(
            f"OUTPUT {output.url} lies inside INPUT, so that its files would be read as input; choose another folder"
        )
