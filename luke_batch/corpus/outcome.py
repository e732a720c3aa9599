"""What a run has reached, judged on a fresh listing of OUTPUT and not on what workers say; and what it has
superseded, which is never removed before the replacement is committed.

After a complete run every source file has one generation of outputs and each of its rows once, so that a glob
over OUTPUT/data gives what `luke_batch.read` gives.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from luke_batch.base.errors import FragmentError, IncompleteError
from luke_batch.corpus.committed import (
    CommittedFile,
    OutputListing,
    gaps,
    is_complete,
    list_output,
    of_generation,
    shown,
)
from luke_batch.corpus.dead_letters import DeadLetter, mark_of, show_letters, write_file_dead_letter
from luke_batch.corpus.footers import inspect, inspect_all
from luke_batch.corpus.output_file import Key, provenance
from luke_batch.corpus.plan import Plan, PlannedFile
from luke_batch.corpus.storage import DATA, FOREIGN, TEMPORARY, Storage, StoredFile, join

TIDY_SECONDS = 600.0
"""Most that a run spends on removing files; an object store takes some 100,000 of them in that time."""
_AT_ONCE = 1000
"""Files that are removed between two looks at the clock."""
_ABANDONED_SECONDS = 3600.0
"""Age of a temporary file that no living writer still has."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state of OUTPUT for the files of one plan."""

    fragments: int
    """Committed fragments."""
    documents: int
    """Documents of INPUT in usable files."""
    dead_documents: int
    dead_files: int
    missing: tuple[str, ...]
    """`path rows start-end` of what is neither committed nor reported as unreadable."""
    unreadable: tuple[str, ...] = ()
    """Usable files of which this run could not read a part; each has a dead letter."""

    @property
    def complete(self) -> bool:
        """Every document is committed or in the dead letters."""
        return not self.missing

    @property
    def dead_letters(self) -> int:
        """Documents and files."""
        return self.dead_documents + self.dead_files


@dataclass(slots=True)
class Leftovers:
    """What does not belong into OUTPUT any more; paths are relative to it."""

    superseded: list[str] = field(default_factory=lambda: list[str]())
    """Outputs whose rows others hold, and dead letters that outlived theirs."""
    vanished: list[str] = field(default_factory=lambda: list[str]())
    """Outputs and dead letters of source files that are gone, under `on_vanished: prune`."""
    vanished_documents: int = 0
    """Documents in these."""
    damaged: list[str] = field(default_factory=lambda: list[str]())
    """Torn and abandoned files, which commit nothing."""
    foreign: list[str] = field(default_factory=lambda: list[str]())
    """Parquet files in OUTPUT/data that no run has written: moved out of it, never removed."""
    unshown: list[CommittedFile] = field(default_factory=lambda: list[CommittedFile]())
    """Outputs whose dead letters are not, or not as they are, in OUTPUT/_dead_letters."""

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
    """Files of sources that are gone, and their dead letters."""
    vanished_documents: int = 0
    damaged: int = 0
    foreign: int = 0
    """Moved to OUTPUT/_foreign."""
    left: int = 0
    """Files that the time was too short for: the next run removes them."""

    def __bool__(self) -> bool:
        return any(asdict(self).values())


def report_bad_files(plan: Plan, run_id: str) -> None:
    """Write the dead letters of the files that the plan found bad, unless they exist."""
    for bad in plan.bad:
        if not bad.reported:
            letter = DeadLetter(None, bad.path, None, bad.stage, bad.error_class, bad.message)
            write_file_dead_letter(plan.output, letter, bad.content_id, plan.fingerprint, run_id)


def reconcile(plan: Plan, run_id: str, listed: OutputListing | None = None) -> Outcome:
    """Compare the plan with OUTPUT as it is now; `listed` is a listing from after the work.

    A file that could not be read while it was worked on counts as accounted for only by a letter of this very
    run; the letters of earlier runs may speak of a disturbance that is over.
    """
    listed = listed or list_output(plan.output)
    fragments, dead_documents, dead_files, missing, unreadable = 0, 0, 0, list[str](), list[str]()
    for file in plan.files:
        present = listed.current(file.path, file.content_id, plan.fingerprint)
        fragments += len(present)
        dead_documents += sum(listed.dead(each) for each in present)
        letters = listed.letters_of(file.path)
        if is_complete(present, file.rows):
            continue
        of_file = Key.of(file.path, file.content_id, plan.fingerprint)
        if any(letter.key == of_file and _run_of(plan, letter) == run_id for letter in letters):
            dead_files += 1
            unreadable.append(file.path)
            continue
        left = gaps((each.rows for each in present), 0, file.rows) or [(0, 0)]
        missing.extend(f"{file.path} rows {start}-{end}" for start, end in left)
    for bad in plan.bad:
        key = Key.of(bad.path, bad.content_id, plan.fingerprint)
        if any(letter.key == key for letter in listed.letters_of(bad.path)):
            dead_files += 1
        else:
            missing.append(f"{bad.path} (its dead letter)")
    return Outcome(fragments, plan.rows, dead_documents, dead_files, tuple(missing), tuple(unreadable))


def exit_code(outcome: Outcome, error_budget: float) -> int:
    """0 complete; 3 complete with more dead letters than the budget allows; 4 incomplete.

    A budget below 1 is a share of the documents, from 1 on a count. A file that cannot be used counts as one
    dead letter.
    """
    if not outcome.complete:
        return IncompleteError.exit_code
    allowed = error_budget if error_budget >= 1 else error_budget * outcome.documents
    return 3 if outcome.dead_letters > allowed else 0


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
    found.unshown = [file for file in find_unshown(plan, listed) if file.path not in gone]
    return found


def find_unshown(plan: Plan, listed: OutputListing) -> list[CommittedFile]:
    """The outputs of the plan's files of which OUTPUT/_dead_letters does not say what they hold."""
    unshown: list[CommittedFile] = []
    shown_ones: list[tuple[CommittedFile, CommittedFile]] = []
    for planned in plan.files:
        by_key = {letter.key: letter for letter in listed.letters_of(planned.path)}
        for file in listed.outputs_of(planned.path):
            mark, letter = listed.held[file.path].mark, by_key.get(file.key)
            if mark is None:  # of a version that kept letters apart
                continue
            if bool(mark) != (letter is not None):
                unshown.append(file)
            elif letter is not None:
                shown_ones.append((file, letter))
    footers = inspect_all(plan.output, [letter.file for _, letter in shown_ones])
    for (file, _), footer in zip(shown_ones, footers, strict=True):
        told = None if isinstance(footer, FragmentError) else mark_of(provenance(footer.schema))
        if told != listed.held[file.path].mark:
            unshown.append(file)
    return unshown


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
    for file in leftovers.unshown:
        show_letters(output, file.key, provenance(inspect(output, file.file).schema))
    for path in leftovers.foreign:
        output.move(path, join(FOREIGN, path.removeprefix(f"{DATA}/")))
    end = time.monotonic() + seconds
    counts: list[int] = []
    for paths in (leftovers.vanished, leftovers.superseded, leftovers.damaged):
        done = 0
        while done < len(paths) and time.monotonic() < end:
            part = paths[done : done + _AT_ONCE]
            output.remove_all(part)
            done += len(part)
        counts.append(done)
    vanished, superseded, damaged = counts
    whole = vanished == len(leftovers.vanished)
    return Removed(
        superseded=superseded,
        vanished=vanished,
        vanished_documents=leftovers.vanished_documents if whole else 0,
        damaged=damaged,
        foreign=len(leftovers.foreign),
        left=len(leftovers.removable) - sum(counts),
    )


def _run_of(plan: Plan, letter: CommittedFile) -> str | None:
    try:
        return provenance(inspect(plan.output, letter.file).schema).get("run")
    except FragmentError:
        return None


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
            found.vanished += [file.path for file in (*outputs, *mine)]
            found.vanished_documents += sum(gone.held[file.path].rows for file in _shown(plan.output, outputs))
        else:
            kept = {each.key for each in _shown(plan.output, outputs)}
            found.superseded += _others([*outputs, *(each for each in mine if not each.is_of_file)], kept)
    if prune:  # files that lack rows hold documents too
        for file in (each for files in gone.short.values() for each in files):
            if plan.where.matches(file.partition):
                found.vanished.append(file.path)
                found.vanished_documents += max(0, gone.held[file.path].rows)
    if prune and not plan.where:  # letters of files that never had an output; they tell no partition
        found.vanished += [letter.path for mine in letters.values() for letter in mine]


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
