"""What a run has reached, judged on a fresh listing of OUTPUT and not on what workers say."""

from dataclasses import dataclass

from luke_batch.base.errors import FragmentError, IncompleteError
from luke_batch.corpus.committed import (
    CommittedFile,
    OutputListing,
    list_output,
    of_generation,
    ranges_of,
)
from luke_batch.corpus.dead_letters import RUN_KEY, DeadLetter, write_file_dead_letter
from luke_batch.corpus.footers import inspect_all
from luke_batch.corpus.keys import Key, path_hash, short_fingerprint
from luke_batch.corpus.plan import Plan
from luke_batch.corpus.ranges import covers, gaps


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


def report_bad_files(plan: Plan, run_id: str) -> None:
    """Write the dead letters of the files that the plan found bad, unless they exist."""
    for bad in plan.bad:
        if not bad.reported:
            letter = DeadLetter(None, bad.path, None, bad.stage, bad.error_class, bad.message)
            write_file_dead_letter(plan.output, letter, bad.content_id, plan.fingerprint, run_id)


def reconcile(plan: Plan, run_id: str, found: OutputListing | None = None) -> Outcome:
    """Compare the plan with OUTPUT as it is now; `found` is a listing from after the work.

    A file that could not be read while it was worked on counts as accounted for only by a letter of this very
    run; the letters of earlier runs may speak of a disturbance that is over.
    """
    found = found or list_output(plan.output)
    committed, letters = found.data.committed, found.letters
    fingerprint = short_fingerprint(plan.fingerprint)
    fragments, missing, unreadable = 0, list[str](), list[str]()
    wanted: list[CommittedFile] = []
    for file in plan.files:
        source, generation = path_hash(file.path), (file.content_id, fingerprint)
        present = of_generation(committed.get(source, []), generation)
        names = {found.key for found in present}
        fragments += len(present)
        mine = [letter for letter in letters.get(source, []) if letter.key.generation == generation]
        wanted.extend(letter for letter in mine if letter.key in names)
        ranges = ranges_of(present, generation)
        if covers(ranges, file.rows):
            continue
        of_file = [letter for letter in mine if letter.key.rows is None]
        if of_file and _run_of(plan, of_file[0]) == run_id:
            wanted.extend(of_file)
            unreadable.append(file.path)
            continue
        left = gaps(ranges, 0, file.rows) or [(0, 0)]
        missing.extend(f"{file.path} rows {start}-{end}" for start, end in left)
    dead_documents = _count(plan, [letter for letter in wanted if letter.key.rows is not None])
    dead_files = sum(letter.key.rows is None for letter in wanted) + _bad_letters(plan, letters, missing)
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


def _bad_letters(plan: Plan, letters: dict[str, list[CommittedFile]], missing: list[str]) -> int:
    """Letters of the files that planning found bad; one without a letter is missing."""
    count = 0
    for bad in plan.bad:
        key = Key(path_hash(bad.path), bad.content_id, short_fingerprint(plan.fingerprint), None)
        if any(letter.key == key for letter in letters.get(key.path, [])):
            count += 1
        else:
            missing.append(f"{bad.path} (its dead letter)")
    return count


def _count(plan: Plan, letters: list[CommittedFile]) -> int:
    """Rows of the dead-letter files, from their footers."""
    count = 0
    for footer in inspect_all(plan.output, [letter.file for letter in letters]):
        if isinstance(footer, FragmentError):
            raise footer
        count += footer.rows
    return count


def _run_of(plan: Plan, letter: CommittedFile) -> str | None:
    for footer in inspect_all(plan.output, [letter.file]):
        if not isinstance(footer, FragmentError):
            return (footer.schema.metadata or {}).get(RUN_KEY, b"").decode()
    return None
