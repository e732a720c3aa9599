"""What `replay` does again: the fragments that have dead letters, and the files that have one as a whole.

    letters of rows   the committed fragment of that name, as it was cut (or merged since)
    letter of a file  whatever of the file is not committed; where it cannot be used still, its letter stays

A fragment's output is replaced when the new one is committed, and not before. Everything else in OUTPUT is
left alone: files that are new or have changed are the business of `annotate`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from luke_batch.base.errors import FragmentError
from luke_batch.config import OutputConfig
from luke_batch.corpus.committed import CommittedFile, OutputListing
from luke_batch.corpus.footers import Footer, footers_of
from luke_batch.corpus.fragments import Fragment, schema_key, whole_range, work_items
from luke_batch.corpus.leftovers import Leftovers, add_unshown, find_superseded
from luke_batch.corpus.outcome import Outcome, reconcile
from luke_batch.corpus.output_file import Key
from luke_batch.corpus.plan import Plan, PlannedFile, StateCounts
from luke_batch.corpus.storage import StoredFile


@dataclass(frozen=True, slots=True)
class Replay:
    """The work that the dead letters of OUTPUT stand for."""

    plan: Plan
    """Its items are what is done again; its files those that are complete or have a letter as a whole."""
    touched: frozenset[str]
    """Paths of the source files that have something in it."""
    before: Mapping[Key, str]
    """Committed fragments that are done again -> version of the output file until then."""
    notes: tuple[str, ...]
    """Dead letters that are not replayed, and why."""


def plan_replay(plan: Plan, listed: OutputListing, limits: OutputConfig) -> Replay:
    """The part of a plan that has dead letters.

    Args:
        plan: of the whole INPUT, under the fingerprint of the letters. listed: OUTPUT. limits: of a work item.

    Raises:
        FragmentError: a file has changed since the plan was made.
    """
    again: dict[str, list[CommittedFile]] = {}
    failed: set[str] = set()
    mute = 0
    for file in plan.files:
        letters = listed.letters_of(file.path)
        found = _with_letters(plan, file, listed)
        if found:
            again[file.path] = found
        if file.state != "done" and any(letter.is_of_file for letter in letters):
            failed.add(file.path)
        mute += bool(letters) and not found and file.path not in failed and file.state != "done"
    fragments = _fragments(plan, again, failed)
    parts = [part for part, _ in fragments]
    rows, size = sum(part.rows for part in parts), sum(part.bytes for part in parts)
    narrowed = replace(
        plan,
        items=tuple(work_items(fragments, limits.max_rows, limits.max_bytes)),
        files=tuple(file for file in plan.files if file.state == "done" or file.path in failed),
        bad=tuple(bad for bad in plan.bad if listed.letters_of(bad.path)),
        tallies={"replayed": StateCounts(len({part.source for part in parts}), len(parts), rows, size)},
    )
    before = {each.key: each.file.version for found in again.values() for each in found}
    vanished = len(listed.beside(file.path for file in (*plan.files, *plan.bad)).letters)
    return Replay(narrowed, frozenset({*again, *failed}), before, _notes(mute, vanished))


def judge_replay(replay: Replay, run_id: str, listed: OutputListing) -> tuple[Outcome, Leftovers]:
    """The state of OUTPUT after the work, and what the replayed files have superseded.

    A fragment whose output is still that of before counts as missing: it was not done again. Its file keeps
    everything, with the letter that says why.
    """
    now = {each.key: each.file.version for files in listed.committed.values() for each in files}
    same = {key for key, version in replay.before.items() if now.get(key) == version}
    fragments = [part for item in replay.plan.items for part in item.fragments]
    left = [part for part in fragments if part.key(replay.plan.fingerprint) in same]
    outcome = reconcile(replay.plan, run_id, listed)
    missing = [f"{part.source} rows {part.row_start}-{part.row_end}" for part in left]
    outcome = replace(outcome, missing=(*outcome.missing, *missing))
    settled = replay.touched - {part.source for part in left}
    files = tuple(file for file in replay.plan.files if file.path in settled)
    narrowed = replace(replay.plan, files=files)
    superseded = find_superseded(narrowed, outcome, listed)
    leftovers = Leftovers(superseded)
    add_unshown(leftovers, narrowed, listed)
    return outcome, leftovers


def _with_letters(plan: Plan, file: PlannedFile, listed: OutputListing) -> list[CommittedFile]:
    """Committed fragments of a file that have dead letters."""
    return [each for each in listed.current(file.path, file.content_id, plan.fingerprint) if listed.dead(each)]


def _fragments(
    plan: Plan, again: Mapping[str, Sequence[CommittedFile]], failed: set[str]
) -> list[tuple[Fragment, str]]:
    """What is done again, with the key of its schema, in the order of files and rows."""
    left: dict[str, list[Fragment]] = {path: [] for path in failed}
    for item in plan.items:
        for fragment in item.fragments:
            if fragment.source in left:
                left[fragment.source].append(fragment)
    fragments: list[tuple[Fragment, str]] = []
    for file, footer in _footers(plan, sorted({*again, *failed})):
        parts = [
            replace(whole_range(file, footer, each.rows), replaces=each.file.version)
            for each in again.get(file.path, ())
        ]
        parts += left.get(file.path, ())
        kind = schema_key(footer.schema)
        fragments += [(part, kind) for part in sorted(parts, key=lambda part: part.row_start)]
    return fragments


def _footers(plan: Plan, paths: Sequence[str]) -> Iterator[tuple[StoredFile, Footer]]:
    files: list[StoredFile] = []
    for path in paths:
        file = plan.source.stat(path)
        if file is None:
            raise FragmentError(f"{path} has vanished since the plan was made; run the same command again")
        files.append(file)
    for file, footer in zip(files, footers_of(plan.source, files), strict=True):
        planned = plan.known[file.path]
        if footer.footer_id != planned.footer_id or (planned.version and not planned.is_of(file)):
            raise FragmentError(f"{file.path} has changed since the plan was made; run `luke-batch annotate`")
        yield file, replace(footer, content_id=planned.content_id)


def _notes(mute: int, vanished: int) -> tuple[str, ...]:
    notes: list[str] = []
    if mute:
        notes.append(f"dead letters of {mute:,} files are of an earlier content or another run: run `annotate`")
    if vanished:
        notes.append(f"dead letters of {vanished:,} files that are not in INPUT stay as they are")
    return tuple(notes)
