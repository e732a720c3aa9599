"""What a run has to do: INPUT's footers against OUTPUT's names. Planning writes nothing.

States of a source file:

    done      every row is committed under this content and fingerprint, however the file was cut
    new       nothing of this path is committed, or a part of it under this very content and fingerprint
    changed   other content is committed
    stale     this content is committed under another fingerprint
    bad       the file cannot be used
    vanished  committed, but no longer in INPUT
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from luke_batch.config import JobConfig
from luke_batch.corpus.checks import check_source
from luke_batch.corpus.committed import CommittedFile, list_committed, list_dead_letters, ranges_of
from luke_batch.corpus.footers import Footer, content_hash, inspect_all
from luke_batch.corpus.fragments import Fragment, WorkItem, cut, file_key, pack, schema_key
from luke_batch.corpus.keys import Key, path_hash, short_fingerprint
from luke_batch.corpus.layout import DATA
from luke_batch.corpus.ranges import covers
from luke_batch.corpus.sources import SourceFile, Sources, list_sources
from luke_batch.corpus.storage import Storage
from luke_batch.errors import FragmentError, InputError, OutputError

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
    superseded: tuple[str, ...]
    """Output files of older content or another fingerprint, to be removed once this file is committed."""


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
    tallies: Mapping[State, Tally]

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

    files: list[PlannedFile] = field(default_factory=lambda: list[PlannedFile]())
    bad: list[BadFile] = field(default_factory=lambda: list[BadFile]())
    done: list[Key] = field(default_factory=lambda: list[Key]())
    todo: list[tuple[Fragment, str]] = field(default_factory=lambda: list[tuple[Fragment, str]]())
    tallies: dict[State, Tally] = field(default_factory=lambda: {state: Tally() for state in STATES})

    def count(self, state: State, fragments: int, rows: int, size: int) -> None:
        tally = self.tallies[state]
        tally.files += 1
        tally.fragments += fragments
        tally.rows += rows
        tally.bytes += size


def make_plan(input: str, output: Storage, config: JobConfig, fingerprint: str) -> Plan:
    """Compare INPUT with OUTPUT.

    Raises:
        InputError: no file, or none that can be used.
        OutputError: OUTPUT cannot be listed, or lies inside INPUT.
    """
    sources = list_sources(input)
    _check_apart(sources, output)
    try:
        committed, letters = list_committed(output), list_dead_letters(output)
    except OSError as error:
        raise OutputError(f"OUTPUT {output.url} cannot be listed: {error}") from error
    reported = {str(letter.key) for found in letters.values() for letter in found}
    draft = _Draft()
    for source, footer in zip(sources.files, inspect_all(sources.storage, sources.files), strict=True):
        known = committed.pop(path_hash(source.path), [])
        try:
            if isinstance(footer, FragmentError):
                raise footer
            _add(draft, source, footer, known, config, fingerprint)
        except FragmentError as error:
            _add_bad(draft, source, footer, error, fingerprint, reported)
    if len(draft.bad) == len(sources.files):
        others = f" (and {len(draft.bad) - 1} more files)" if len(draft.bad) > 1 else ""
        raise InputError(f"no file of INPUT can be used: {draft.bad[0].message}{others}")
    for gone in committed.values():
        rows = sum(end - start for start, end in (file.key.rows or (0, 0) for file in gone))
        draft.count("vanished", len(gone), rows, sum(file.file.size for file in gone))
    items = pack(draft.todo, config.output.max_rows, config.output.max_bytes)
    return Plan(
        source=sources.storage,
        output=output,
        fingerprint=fingerprint,
        items=tuple(items),
        files=tuple(draft.files),
        bad=tuple(draft.bad),
        done=tuple(draft.done),
        tallies=draft.tallies,
    )


def _add(
    draft: _Draft,
    source: SourceFile,
    footer: Footer,
    known: Sequence[CommittedFile],
    config: JobConfig,
    fingerprint: str,
) -> None:
    """Add a readable file to the plan; FragmentError where its columns do not fit."""
    generation = (footer.content_id, short_fingerprint(fingerprint))
    current = [file for file in known if file.key.generation == generation]
    older = tuple(file.file.path for file in known if file.key.generation != generation)
    covered = ranges_of(current, generation)
    if covers(covered, footer.rows):
        draft.count("done", len(current), footer.rows, sum(footer.group_bytes))
        state: State = "done"
    else:
        schema = footer.schema
        check_source(schema, config.input, source.path)
        whole = cut(source, footer, config.output.max_rows, config.output.max_bytes)
        left = [part for fragment in whole for part in fragment.without(covered)]
        state = _state(known, footer.content_id, generation)
        draft.count(state, len(left), sum(part.rows for part in left), sum(part.bytes for part in left))
        kind = schema_key(schema)
        draft.todo.extend((part, kind) for part in left)
    draft.done.extend(file.key for file in current)
    draft.files.append(PlannedFile(source.path, footer.content_id, footer.rows, state, older))


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
    fingerprint: str,
    reported: set[str],
) -> None:
    unreadable = isinstance(footer, FragmentError)
    # Without a footer, the version stands in: a file that is mended in place gets another id.
    content_id = (
        content_hash((b"unreadable", str(source.size).encode(), source.version.encode()))
        if unreadable
        else footer.content_id
    )
    known = str(file_key(source.path, content_id, fingerprint)) in reported
    stage: Literal["plan", "read"] = "read" if unreadable else "plan"
    draft.bad.append(BadFile(source.path, content_id, stage, type(error).__name__, str(error), known))
    draft.count("bad", 0, 0, source.size)


def _check_apart(sources: Sources, output: Storage) -> None:
    """Outputs must never be taken for input on the next night."""
    if sources.storage.is_local != output.is_local:
        return
    top, root = sources.storage.root.rstrip("/") + "/", output.root.rstrip("/") + "/"
    inside = sources.is_folder and root.startswith(top)
    if inside or any((top + file.path).startswith(f"{root}{DATA}/") for file in sources.files):
        raise OutputError(
            f"OUTPUT {output.url} lies inside INPUT, so that its files would be read as input;"
            " choose another folder"
        )
