"""Removal of what a run has superseded, and never before the replacement is committed."""

from luke_batch.corpus.committed import list_committed, list_dead_letters, ranges_of
from luke_batch.corpus.keys import path_hash, short_fingerprint
from luke_batch.corpus.plan import Plan
from luke_batch.corpus.ranges import covers


def sweep(plan: Plan) -> list[str]:
    """Remove superseded outputs and outlived dead letters of source files that are completely committed.

    Judged on a fresh listing of OUTPUT. Outputs of vanished and of bad source files are kept.

    Returns:
        The removed paths, relative to OUTPUT.
    """
    committed, letters = list_committed(plan.output), list_dead_letters(plan.output)
    fingerprint = short_fingerprint(plan.fingerprint)
    removed: list[str] = []
    for file in plan.files:
        source, generation = path_hash(file.path), (file.content_id, fingerprint)
        present = committed.get(source, [])
        if not covers(ranges_of(present, generation), file.rows):
            continue
        still_there = {found.file.path for found in present}
        removed.extend(path for path in file.superseded if path in still_there)
        current = {found.key for found in present if found.key.generation == generation}
        removed.extend(letter.file.path for letter in letters.get(source, []) if letter.key not in current)
    for path in removed:
        plan.output.remove(path)
    return removed
