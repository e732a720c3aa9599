"""What a run has reached, judged on a fresh listing of OUTPUT and not on what workers say."""

from dataclasses import dataclass

from luke_batch.base.errors import FragmentError, IncompleteError
from luke_batch.corpus.committed import CommittedFile, OutputListing, gaps, is_complete, list_output
from luke_batch.corpus.dead_letters import DeadLetter, write_file_dead_letter
from luke_batch.corpus.footers import inspect
from luke_batch.corpus.output_file import Key, provenance
from luke_batch.corpus.plan import Plan


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


def _run_of(plan: Plan, letter: CommittedFile) -> str | None:
    try:
        return provenance(inspect(plan.output, letter.file).schema).get("run")
    except FragmentError:
        return None
