"""The dead letters of OUTPUT, run again: with the INPUT and the settings of its last finished run."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from luke_batch.base.errors import InputError, OutputError
from luke_batch.config import JobConfig
from luke_batch.corpus.committed import OutputListing, list_dead_letters, list_output
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.manifest import RunManifest, latest_manifest
from luke_batch.corpus.outcome import Leftovers, Outcome
from luke_batch.corpus.replay import judge_replay, plan_replay
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.planning import Prepared, prepare
from luke_batch.distributed.run import RunReport, Start, carry_out


def replay(
    output: str,
    settings: Callable[[dict[str, Any]], JobConfig],
    address: str | None = None,
    *,
    input: str | None = None,
    quiet: bool = False,
) -> RunReport | None:
    """Run every fragment with dead letters and every file with one again; nothing else of OUTPUT is touched.

    Args:
        output: folder of the annotated corpus.
        settings: the job, from the configuration that the last finished run had.
        address, quiet: as for `annotate`.
        input: INPUT, where it is not under the name that the manifest has.

    Returns:
        The report; None where OUTPUT has no dead letters.

    Raises:
        UsageError: no run has finished, the settings change results, INPUT cannot be used, or a run is at
        work on OUTPUT; nothing has been written.
        IncompleteError: another run has taken over OUTPUT.
    """
    storage = Storage.at(output)
    last = _last_run(storage)
    config = settings(last.config)
    start = Start.of("replay", input or last.input, config, address, quiet)
    with Lease(storage, start.run_id, config.output.lease_seconds) as lease:
        if not list_dead_letters(storage):
            return None
        prepared = _prepare(start.input, output, config, last)
        found = plan_replay(prepared.plan, list_output(storage), config.output)

        def judge(run_id: str, listed: OutputListing) -> tuple[Outcome, Leftovers]:
            return judge_replay(found, run_id, listed)

        return carry_out(replace(prepared, plan=found.plan), start, lease, judge, found.notes)


def _last_run(storage: Storage) -> RunManifest:
    try:
        last = latest_manifest(storage, lambda run: run.finished is not None)
    except OSError as error:
        raise OutputError(f"OUTPUT {storage.url} cannot be listed: {error}") from error
    if last is None:
        raise OutputError(f"OUTPUT {storage.url} has no finished run; run `luke-batch annotate INPUT OUTPUT` first")
    return last


def _prepare(input: str, output: str, config: JobConfig, last: RunManifest) -> Prepared:
    try:
        return prepare(input, output, config, same_as=last)
    except InputError as error:
        hint = "a manifest keeps no user and password of a URL; --input names INPUT anew"
        raise InputError(f"{error} (INPUT as of run {last.run_id}; {hint})") from error
