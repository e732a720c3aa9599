"""Removal of what a run has superseded, and never before the replacement is committed.

After a complete run every source file has one generation of outputs and each of its rows once, so that a glob
over OUTPUT/data gives what `luke_batch.read` gives.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from luke_batch.base.errors import FragmentError
from luke_batch.corpus.committed import (
    CommittedFile,
    OutputListing,
    list_output,
    of_generation,
    partition_of,
    ranges_of,
)
from luke_batch.corpus.generations import shown
from luke_batch.corpus.keys import Key, path_hash, short_fingerprint
from luke_batch.corpus.layout import DATA, FOREIGN, TEMPORARY, join
from luke_batch.corpus.outcome import Outcome
from luke_batch.corpus.plan import Plan, PlannedFile
from luke_batch.corpus.ranges import covers
from luke_batch.corpus.storage import Storage, StoredFile

_ABANDONED_SECONDS = 3600.0
"""Age of a temporary file that no living writer still has."""

_Files = Sequence[CommittedFile]


@dataclass(slots=True)
class Leftovers:
    """What does not belong into OUTPUT any more; paths are relative to it."""

    removable: list[str] = field(default_factory=lambda: list[str]())
    """Superseded, pruned and torn outputs, dead letters that outlived theirs, abandoned temporary files."""
    foreign: list[str] = field(default_factory=lambda: list[str]())
    """Parquet files in OUTPUT/data that no run has written: moved out of it, never removed."""

    def __bool__(self) -> bool:
        return bool(self.removable or self.foreign)


def find_leftovers(plan: Plan, outcome: Outcome, listed: OutputListing | None = None) -> Leftovers:
    """Judge OUTPUT as it is now; `listed` is a listing from after the work.

    A source file of which something is missing keeps everything. One with a fragment that cannot be read is
    replaced by its readable ones, unless complete outputs of the same content are there from before: then
    these stay, and the new ones go. Vanished and unusable files keep what a reader shows of them; vanished
    ones lose it under `on_vanished: prune`, at the end of a complete run. Nothing outside of `plan.where` is
    touched.
    """
    listed = listed or list_output(plan.output)
    data, committed, letters = listed.data, dict(listed.data.committed), dict(listed.letters)
    found = Leftovers(find_superseded(plan, outcome, listed), _meant(plan, data.foreign))
    for file in (*plan.files, *plan.bad):
        committed.pop(path_hash(file.path), None)
        letters.pop(path_hash(file.path), None)
    if outcome.complete:
        _add_vanished(found, plan, committed, letters)
    found.removable += _meant(plan, data.torn)
    oldest = time.time() - _ABANDONED_SECONDS
    found.removable += [f.path for f in plan.output.list(".part", under=TEMPORARY) if f.modified < oldest]
    return found


def find_superseded(plan: Plan, outcome: Outcome, listed: OutputListing) -> list[str]:
    """Outputs and dead letters of the plan's own files that others have taken the place of."""
    removable: list[str] = []
    for file in plan.files:
        source = path_hash(file.path)
        outputs, mine = listed.data.committed.get(source, []), listed.letters.get(source, [])
        kept = _kept(plan, file, outputs, outcome)
        if kept is not None:
            current = {each.key for each in kept}
            if file.path in outcome.unreadable:
                current.add(_file_key(source, file.content_id, plan))
            removable += _others(outputs, current) + _others(mine, current)
    for bad in plan.bad:
        source = path_hash(bad.path)
        outputs, mine = listed.data.committed.get(source, []), listed.letters.get(source, [])
        current = {each.key for each in _shown(plan.output, outputs)}
        current.add(_file_key(source, bad.content_id, plan))
        removable += _others(outputs, current) + _others(mine, current)
    return removable


def remove(output: Storage, leftovers: Leftovers) -> None:
    """Remove and move them."""
    for path in leftovers.removable:
        output.remove(path)
    for path in leftovers.foreign:
        output.move(path, join(FOREIGN, path.removeprefix(f"{DATA}/")))


def _kept(plan: Plan, file: PlannedFile, outputs: _Files, outcome: Outcome) -> _Files | None:
    """The outputs of a planned file that stay; None where it is too early to tell."""
    fingerprint = short_fingerprint(plan.fingerprint)
    current = of_generation(outputs, (file.content_id, fingerprint))
    if covers(ranges_of(current, (file.content_id, fingerprint)), file.rows):
        return current
    if file.path not in outcome.unreadable:
        return None
    of_content = [each for each in outputs if each.key.content_id == file.content_id]
    for generation in {each.key.generation for each in of_content}:
        if covers(ranges_of(of_content, generation), file.rows):
            return _shown(plan.output, of_content)
    return current or _shown(plan.output, outputs)


def _add_vanished(
    found: Leftovers,
    plan: Plan,
    vanished: dict[str, list[CommittedFile]],
    letters: dict[str, list[CommittedFile]],
) -> None:
    """Add what goes of source files that are not in INPUT, as far as the plan is about their partition."""
    prune = plan.on_vanished == "prune"
    for source, outputs in vanished.items():
        mine = letters.pop(source, [])
        if not plan.where.matches(outputs[0].partition):
            continue
        current = set[Key]() if prune else {each.key for each in _shown(plan.output, outputs)}
        found.removable += _others(outputs, current)
        found.removable += _others((each for each in mine if each.key.rows is not None or prune), current)
    if prune and not plan.where:  # letters of files that never had an output; they tell no partition
        found.removable += [letter.file.path for mine in letters.values() for letter in mine]


def _shown(output: Storage, files: _Files) -> _Files:
    """What a reader shows; all of it where an output is damaged, so that nobody can tell."""
    try:
        return shown(output, files) if files else files
    except FragmentError:
        return files


def _meant(plan: Plan, files: Iterable[StoredFile]) -> list[str]:
    return [file.path for file in files if plan.where.matches(partition_of(file.path))]


def _file_key(source: str, content_id: str, plan: Plan) -> Key:
    return Key(source, content_id, short_fingerprint(plan.fingerprint), None)


def _others(files: Iterable[CommittedFile], kept: set[Key]) -> list[str]:
    return [file.file.path for file in files if file.key not in kept]
