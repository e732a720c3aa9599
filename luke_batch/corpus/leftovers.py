"""What a run has superseded, and how it is taken out of OUTPUT: never before the replacement is committed.

After a complete run every source file has one generation of outputs and each of its rows once, so that a glob
over OUTPUT/data gives what `luke_batch.read` gives.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from luke_batch.base.errors import FragmentError
from luke_batch.corpus.committed import CommittedFile, OutputListing, is_complete, list_output, of_generation, shown
from luke_batch.corpus.dead_letters import mark_of, show_letters
from luke_batch.corpus.footers import inspect, inspect_all
from luke_batch.corpus.outcome import Outcome
from luke_batch.corpus.output_file import Key, provenance
from luke_batch.corpus.plan import Plan, PlannedFile
from luke_batch.corpus.storage import DATA, FOREIGN, TEMPORARY, Storage, StoredFile, join

TIDY_SECONDS = 600.0
"""Most that a run spends on tidying; an object store deletes some 100,000 files in that time."""
_AT_ONCE = 1000
"""Files that are removed between two looks at the clock."""
_ABANDONED_SECONDS = 3600.0
"""Age of a temporary file that no living writer still has."""

_Thing = TypeVar("_Thing")


@dataclass(slots=True)
class Leftovers:
    """What does not belong into OUTPUT any more; paths are relative to it."""

    superseded: list[str] = field(default_factory=lambda: list[str]())
    """Outputs whose rows others hold, and dead letters that outlived theirs."""
    vanished: dict[str, tuple[int, int]] = field(default_factory=lambda: dict[str, tuple[int, int]]())
    """Outputs and dead letters of source files that are gone, under `on_vanished: prune`: documents and dead letters
    that go with each.
    """
    damaged: list[str] = field(default_factory=lambda: list[str]())
    """Torn and abandoned files, which commit nothing."""
    foreign: list[str] = field(default_factory=lambda: list[str]())
    """Parquet files in OUTPUT/data that no run has written: moved out of it, never removed."""
    unshown: list[CommittedFile] = field(default_factory=lambda: list[CommittedFile]())
    """Outputs whose dead letters are not, or not as they are, in OUTPUT/_dead_letters."""
    seen: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    """The other outputs that have letters: version of the file that shows them; see `Held.shown`."""

    @property
    def removable(self) -> list[str]:
        """All that is removed."""
        return [*self.superseded, *self.vanished, *self.damaged]

    def __bool__(self) -> bool:
        return bool(self.removable or self.foreign or self.unshown)


@dataclass(frozen=True, slots=True)
class Removed:
    """What a run has taken out of OUTPUT."""

    superseded: int = 0
    """Files whose rows others hold, and their dead letters."""
    vanished: int = 0
    """Files of sources that are gone, and of their dead letters."""
    vanished_documents: int = 0
    vanished_letters: int = 0
    """Documents and dead letters in these."""
    damaged: int = 0
    foreign: int = 0
    """Moved to OUTPUT/_foreign."""
    left: int = 0
    """Files that the time was too short for: the next run goes on with them."""
    refused: int = 0
    """Files that cannot be removed."""
    cause: str = ""
    """Why, for one of them."""

    def __bool__(self) -> bool:
        return any(asdict(self).values())


def find_leftovers(plan: Plan, outcome: Outcome, listed: OutputListing | None = None) -> Leftovers:
    """Judge OUTPUT as it is now; `listed` is a listing from after the work.

    A source file of which something is missing keeps everything. One with a fragment that cannot be read is
    replaced by its readable ones, unless complete outputs of the same content are there from before: then
    these stay, and the new ones go. Vanished and unusable files keep what a reader shows of them; vanished
    ones lose it under `on_vanished: prune`, at the end of a complete run. Nothing outside of `plan.where` is
    touched.
    """
    listed = listed or list_output(plan.output)
    found = Leftovers(find_superseded(plan, outcome, listed), foreign=_meant(plan, listed.foreign))
    if outcome.complete:
        _add_vanished(found, plan, listed.beside(file.path for file in (*plan.files, *plan.bad)))
    oldest = time.time() - _ABANDONED_SECONDS
    found.damaged += _meant(plan, listed.torn)
    found.damaged += [file.path for file in plan.output.list(".part", under=TEMPORARY) if file.modified < oldest]
    gone = set(found.removable)
    add_unshown(found, plan, listed)
    found.unshown = [file for file in found.unshown if file.path not in gone]
    return found


def add_unshown(found: Leftovers, plan: Plan, listed: OutputListing) -> None:
    """The outputs of the plan's files of which OUTPUT/_dead_letters does not say what they hold.

    A file of letters is opened once for each of its versions.
    """
    shown_ones: list[tuple[CommittedFile, CommittedFile]] = []
    for planned in plan.files:
        by_key = {letter.key: letter for letter in listed.letters_of(planned.path)}
        for file in listed.outputs_of(planned.path):
            held, letter = listed.held[file.path], by_key.get(file.key)
            if held.mark is None:  # of a version that kept letters apart
                continue
            if bool(held.mark) != (letter is not None):
                found.unshown.append(file)
            elif letter is not None and letter.file.version == held.shown:
                found.seen[file.path] = held.shown
            elif letter is not None:
                shown_ones.append((file, letter))
    footers = inspect_all(plan.output, [letter.file for _, letter in shown_ones])
    for (file, letter), footer in zip(shown_ones, footers, strict=True):
        told = None if isinstance(footer, FragmentError) else mark_of(provenance(footer.schema))
        if told == listed.held[file.path].mark:
            found.seen[file.path] = letter.file.version
        else:
            found.unshown.append(file)


def find_superseded(plan: Plan, outcome: Outcome, listed: OutputListing) -> list[str]:
    """Outputs and dead letters of the plan's own files that others have taken the place of."""
    removable: list[str] = []
    for file in (*plan.files, *plan.bad):
        outputs, short = listed.outputs_of(file.path), listed.short_of(file.path)
        is_planned = isinstance(file, PlannedFile)
        kept = _kept(plan, file, listed, outcome) if is_planned else _shown(plan.output, outputs)
        if kept is not None:
            names = {each.key for each in kept}
            if not is_planned or file.path in outcome.unreadable:
                names.add(Key.of(file.path, file.content_id, plan.fingerprint))
            removable += _others([*outputs, *listed.letters_of(file.path)], names) + [each.path for each in short]
    return removable


def tidy(output: Storage, leftovers: Leftovers, seconds: float = TIDY_SECONDS) -> Removed:
    """Show letters, move and remove, in that order, for about so long; what is left is found again by the next run."""
    end = time.monotonic() + seconds
    refused: dict[str, str] = {}

    def show(files: Sequence[CommittedFile]) -> None:
        for file in files:
            show_letters(output, file.key, provenance(inspect(output, file.file).schema))

    def move(paths: Sequence[str]) -> None:
        for path in paths:
            output.move(path, join(FOREIGN, path.removeprefix(f"{DATA}/")))

    def remove(paths: Sequence[str]) -> None:
        refused.update(output.remove_all(paths))

    shown_again = _until(end, leftovers.unshown, show, 1)
    moved = _until(end, leftovers.foreign, move, 1)
    vanished = _until(end, list(leftovers.vanished), remove, _AT_ONCE)
    superseded = _until(end, leftovers.superseded, remove, _AT_ONCE)
    damaged = _until(end, leftovers.damaged, remove, _AT_ONCE)
    gone = [held for path, held in list(leftovers.vanished.items())[:vanished] if path not in refused]
    everything = (*leftovers.unshown, *leftovers.foreign, *leftovers.removable)
    return Removed(
        superseded=superseded - sum(path in refused for path in leftovers.superseded),
        vanished=len(gone),
        vanished_documents=sum(documents for documents, _ in gone),
        vanished_letters=sum(letters for _, letters in gone),
        damaged=damaged - sum(path in refused for path in leftovers.damaged),
        foreign=moved,
        left=len(everything) - shown_again - moved - vanished - superseded - damaged,
        refused=len(refused),
        cause=next(iter(refused.values()), ""),
    )


def _until(end: float, things: Sequence[_Thing], treat: Callable[[Sequence[_Thing]], None], at_once: int) -> int:
    """How many of the things were treated before the clock says `end`."""
    done = 0
    while done < len(things) and time.monotonic() < end:
        part = things[done : done + at_once]
        treat(part)
        done += len(part)
    return done


def _kept(plan: Plan, file: PlannedFile, listed: OutputListing, outcome: Outcome) -> Sequence[CommittedFile] | None:
    """The outputs of a planned file that stay; None where it is too early to tell."""
    current, outputs = listed.current(file.path, file.content_id, plan.fingerprint), listed.outputs_of(file.path)
    if is_complete(current, file.rows):
        return current
    if file.path not in outcome.unreadable:
        return None
    of_content = [each for each in outputs if each.key.content_id == file.content_id]
    generations = {each.key.generation for each in of_content}
    if any(is_complete(of_generation(of_content, generation), file.rows) for generation in generations):
        return _shown(plan.output, of_content)
    return current or _shown(plan.output, outputs)


def _add_vanished(found: Leftovers, plan: Plan, gone: OutputListing) -> None:
    """What is removed of source files that are not in INPUT, as far as the plan is about their partition.

    Under `keep` that is what their readers are not shown anyhow.
    """
    prune, letters = plan.on_vanished == "prune", dict(gone.letters)
    for source, outputs in gone.committed.items():
        mine = letters.pop(source, [])
        if not plan.where.matches(outputs[0].partition):
            continue
        if prune:
            found.vanished |= {file.path: (0, int(file.is_of_file)) for file in (*outputs, *mine)}
            found.vanished |= {
                file.path: (gone.held[file.path].rows, gone.dead(file)) for file in _shown(plan.output, outputs)
            }
        else:
            kept = {each.key for each in _shown(plan.output, outputs)}
            found.superseded += _others([*outputs, *(each for each in mine if not each.is_of_file)], kept)
    if prune:  # files that lack rows hold documents too
        for file in (each for files in gone.short.values() for each in files):
            if plan.where.matches(file.partition):
                found.vanished[file.path] = (max(0, gone.held[file.path].rows), gone.dead(file))
    if prune and not plan.where:  # letters of files that never had an output; they tell no partition
        found.vanished |= {letter.path: (0, int(letter.is_of_file)) for mine in letters.values() for letter in mine}


def _shown(output: Storage, files: Sequence[CommittedFile]) -> Sequence[CommittedFile]:
    """What a reader shows; all of it where an output is damaged, so that nobody can tell."""
    try:
        return shown(output, files)
    except FragmentError:
        return files


def _meant(plan: Plan, files: Iterable[StoredFile]) -> list[str]:
    return [file.path for file in files if plan.where.matches(file.partition)]


def _others(files: Iterable[CommittedFile], kept: set[Key]) -> list[str]:
    return [file.path for file in files if file.key not in kept]
