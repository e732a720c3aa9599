"""A whole run, over what is new or over the dead letters: check, plan, annotate on Ray, judge the state of OUTPUT.

Everything that can be refused is refused before anything is written, and a plan with nothing to do neither starts nor
imports Ray.
"""

import json
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib.metadata import version
from typing import Any

from luke_batch.annotate.annotator import model_stages, pinned
from luke_batch.annotate.preparation import Preparation
from luke_batch.base.errors import IncompleteError, InputError, OutputError
from luke_batch.base.problems import Problems
from luke_batch.config import JobConfig, OutputConfig
from luke_batch.corpus.commit import RunContext
from luke_batch.corpus.committed import OutputListing, list_output
from luke_batch.corpus.drift import EXIT_CODE as DRIFT_EXIT_CODE
from luke_batch.corpus.drift import Drift, baseline_of, compare, last_drift
from luke_batch.corpus.edits import with_digests
from luke_batch.corpus.footers import write_known_footers
from luke_batch.corpus.forgotten import read_forgotten
from luke_batch.corpus.held import write_known
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.leftovers import Leftovers, Removed, find_leftovers, tidy
from luke_batch.corpus.manifest import Command, RunManifest, forecast, latest_manifest, new_run_id, write_manifest
from luke_batch.corpus.outcome import Outcome, exit_code, reconcile, report_bad_files
from luke_batch.corpus.plan import Plan
from luke_batch.corpus.replay import judge_replay, plan_replay
from luke_batch.corpus.storage import FOREIGN, Storage
from luke_batch.corpus.vanished import find_vanished
from luke_batch.distributed.planning import Prepared, examine, prepare, with_pinned_tables
from luke_batch.distributed.preflight import check_broken, check_cluster, check_places
from luke_batch.distributed.results import RunTally
from luke_batch.text.names.aliases import load_aliases

_FAILED_ITEMS = 10
"""Work items that may fail to commit before a run gives up: a full disk fails them all."""
_MANY_FOOTERS = 1000
"""Footers that had to be read although nothing was to do: noting them is worth a write."""
_LIBRARIES = ("luke-batch", "ray", "torch", "transformers", "tokenizers", "pyarrow", "sentencex")


@dataclass(frozen=True, slots=True)
class RunReport:
    """A finished run."""

    run_id: str
    exit_code: int
    """0 complete; 3 complete, but dead letters beyond the error budget; 4 incomplete; 5 complete, but label shares
    beyond the drift limit.
    """
    plan: Plan
    """What there was to do."""
    outcome: Outcome
    """The state of OUTPUT afterwards, from a fresh listing."""
    tally: RunTally
    seconds: float
    removed: Removed = field(default_factory=Removed)
    """What was taken out of OUTPUT."""
    foreign: Sequence[str] = ()
    """Files in OUTPUT/data that no run has written; they were moved to OUTPUT/_foreign."""
    forecast: Mapping[str, Any] | None = None
    """What the last run let expect of this one, and what it took: see `Forecast.compared`."""
    drift: Drift | None = None
    """How far the label shares are from those of the baseline, where there is one."""
    notes: Sequence[str] = ()
    """Further warnings."""

    @property
    def nothing_to_do(self) -> bool:
        """Everything was committed before."""
        return self.plan.nothing_to_do

    @property
    def warnings(self) -> list[str]:
        """What a person should know about the data, one line each."""
        renamed = [
            f"INPUT has a column {old}, which luke-batch writes: it is kept as {new}"
            for old, new in sorted(self.tally.renamed.items())
        ]
        duplicates = [
            f"{source}: {count} documents bear the id of an earlier one; rows are told apart by their place"
            for source, count in sorted(self.tally.duplicates.items())
        ]
        short = [f"{self.plan.short:,} files of OUTPUT lacked rows that their names tell of: they were done again"]
        forgotten = [f"{self.tally.forgotten:,} documents were left out, as OUTPUT was told to forget them"]
        moved = [
            f"OUTPUT/{path} was written by no run, and would be read as one of ours: moved to {FOREIGN}/"
            for path in self.foreign
        ]
        said = [*(short if self.plan.short else []), *(forgotten if self.tally.forgotten else [])]
        return [*self.notes, *renamed, *duplicates, *said, *moved]


Judge = Callable[[str, OutputListing], tuple[Outcome, Leftovers]]
"""What a run has reached and what is to be removed, by its id and a listing of OUTPUT from after the work."""


@dataclass(frozen=True)
class _Begun:
    """What a run is told, and when it began."""

    command: Command
    input: str
    address: str | None
    quiet: bool
    confirm_vanished: bool = False
    """Somebody has confirmed what vanished: the manifest says so, for the runs to come."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.monotonic)

    @cached_property
    def run_id(self) -> str:
        return new_run_id(self.now)


def annotate(
    input: str,
    output: str,
    config: JobConfig,
    address: str | None = None,
    *,
    where: Sequence[str] = (),
    confirm_vanished: bool = False,
    quiet: bool = False,
) -> RunReport:
    """Annotate what INPUT has and OUTPUT lacks.

    Args:
        input: file, folder, glob or hive-partitioned folder of Parquet.
        output: folder of the annotated corpus.
        config: the job.
        address: Ray cluster (`auto`, `local`, HOST:PORT); None: the Ray that runs in this process, else RAY_ADDRESS,
            else a local one for this run.
        where: `key=value` for each partition that is wanted; nothing else is looked at.
        confirm_vanished: go on although more of OUTPUT has vanished from INPUT than `output.vanished_limit`.
        quiet: show no progress.

    Raises:
        UsageError: something cannot be used, or another run is at work on OUTPUT; nothing has been written.
            PreflightError has several such problems.
        IncompleteError: another run has taken over OUTPUT; or too much has vanished, and nothing has been written.
    """
    begun = _Begun("annotate", input, address, quiet, confirm_vanished)
    problems = Problems()
    with ExitStack() as stack:
        lease = None
        with problems.noted():
            storage = Storage.at(output)
            lease = stack.enter_context(Lease(storage, begun.run_id, config.output.lease_seconds))
        prepared = examine(input, output, config, problems, where)
        if lease is None or prepared is None:
            check_broken(config, input, output, address, None, problems)
            problems.raise_any()
        assert lease is not None
        assert prepared is not None
        vanished = find_vanished(prepared.plan)
        if vanished is not None and not confirm_vanished:
            vanished.refuse()
        notes = [vanished.words] if vanished is not None and vanished.fresh else []
        return _carry_out(prepared, begun, lease, partial(_judge, prepared.plan), notes)


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
        UsageError: no run has finished, the settings change results, INPUT cannot be used, or a run is at work on
            OUTPUT; nothing has been written.
        IncompleteError: another run has taken over OUTPUT.
    """
    storage = Storage.at(output)
    last = _last_run(storage)
    config = settings(last.config)
    begun = _Begun("replay", input or last.input, address, quiet)
    with Lease(storage, begun.run_id, config.output.lease_seconds) as lease:
        listed = list_output(storage)
        if not listed.letters and not any(each.dead for each in listed.held.values()):
            return None
        try:
            prepared = prepare(begun.input, output, config, same_as=last)
        except InputError as error:
            hint = "a manifest keeps no user and password of a URL; --input names INPUT anew"
            raise InputError(f"{error} (INPUT as of run {last.run_id}; {hint})") from error
        found = plan_replay(prepared.plan, listed, config.output)
        prepared = replace(prepared, plan=found.plan)
        return _carry_out(prepared, begun, lease, partial(judge_replay, found), found.notes)


def _judge(plan: Plan, run_id: str, listed: OutputListing) -> tuple[Outcome, Leftovers]:
    outcome = reconcile(plan, run_id, listed)
    return outcome, find_leftovers(plan, outcome, listed)


def _last_run(storage: Storage) -> RunManifest:
    try:
        last = latest_manifest(storage, lambda run: run.finished is not None)
    except OSError as error:
        raise OutputError(f"OUTPUT {storage.url} cannot be listed: {error}") from error
    if last is None:
        raise OutputError(f"OUTPUT {storage.url} has no finished run; run `luke-batch annotate INPUT OUTPUT` first")
    return last


def _carry_out(prepared: Prepared, begun: _Begun, lease: Lease, judge: Judge, notes: Sequence[str] = ()) -> RunReport:
    """Do what a plan says, then judge and tidy OUTPUT. The entered lease is taken once there is something to write."""
    plan, config = prepared.plan, prepared.config
    planned = time.monotonic()
    expected = forecast(plan) if plan.items and begun.command == "annotate" else None
    manifest = _manifest(begun, prepared)
    if expected is not None:
        manifest = replace(manifest, forecast=asdict(expected))
    tally = RunTally()
    if plan.items:
        # Workers have another working directory, and would resolve a branch or a URL anew.
        fixed = pinned(with_pinned_tables(config, prepared.tables), prepared.checkpoints)
        _annotate_items(plan, fixed, manifest, lease, tally, begun.address, quiet=begun.quiet)
    worked = time.monotonic()
    with _reachable(plan.output):
        if not plan.nothing_to_do:
            lease.take()
            lease.check()
            report_bad_files(plan, begun.run_id)
        listed = list_output(plan.output, tally.held)
        outcome, leftovers = judge(begun.run_id, listed)
        removed = _tidy(plan, listed, leftovers, lease)
        drift = _drift(plan.output, manifest, tally, config.output)
        code = IncompleteError.exit_code if removed.refused else exit_code(outcome, config.output.error_budget)
        if code == 0 and drift is not None and drift.exceeds(config.output.drift_limit):
            code = DRIFT_EXIT_CODE
        compared = expected.compared(worked - planned) if expected is not None and outcome.complete else None
        if not plan.nothing_to_do or removed or begun.confirm_vanished:
            durations = {
                "plan": planned - begun.clock,
                "start": tally.throughput.started - planned,
                "annotate": worked - planned,
                "finish": time.monotonic() - worked,
            }
            measured = drift.figures() if drift is not None and _has_own_drift(manifest, tally) else None
            figures = {
                **tally.figures(),
                "drift": measured,
                "agreements": dict(prepared.agreements),
                "removed": asdict(removed),
            }
            manifest = replace(manifest, durations=durations, renamed=tally.renamed, figures=figures)
            if compared is not None:
                manifest = replace(manifest, forecast=compared)
            write_manifest(plan.output, manifest.finish(outcome, code, datetime.now(UTC)))
    seconds = time.monotonic() - begun.clock
    report = RunReport(begun.run_id, code, plan, outcome, tally, seconds, removed, leftovers.foreign, compared, drift)
    return replace(report, notes=notes)


@contextmanager
def _reachable(output: Storage) -> Generator[None]:
    """In this block an OUTPUT that can no longer be read or written ends the run as incomplete."""
    try:
        yield
    except OSError as error:
        raise IncompleteError(
            f"OUTPUT {output.url} cannot be read or written any more: {error}; once it can, the same command goes on"
        ) from error


def _manifest(begun: _Begun, prepared: Prepared) -> RunManifest:
    settings = prepared.config.model_dump(mode="json")
    precisions = {spec.model.path: spec.model.precision for spec in model_stages(prepared.config)}
    return replace(
        RunManifest.start(begun.run_id, begun.input, prepared.plan, settings, begun.now),
        command=begun.command,
        models={
            path: {"weights": found.weights_hash, "revision": found.revision, "precision": precisions[path]}
            for path, found in prepared.checkpoints.items()
        },
        versions={name: version(name) for name in _LIBRARIES},
    )


def _drift(output: Storage, manifest: RunManifest, tally: RunTally, settings: OutputConfig) -> Drift | None:
    """That of this run; where it adds no documents to compare, and a limit is to be kept, of the last one."""
    if not _has_own_drift(manifest, tally):
        return None if settings.drift_limit is None else last_drift(output, settings.drift_baseline)
    baseline = baseline_of(output, manifest.run_id, settings.drift_baseline)
    return None if baseline is None else compare(tally.statistics, manifest.fingerprint, baseline)


def _has_own_drift(manifest: RunManifest, tally: RunTally) -> bool:
    """A replay is of few documents, and those are unlike others."""
    return manifest.command == "annotate" and tally.statistics.documents > 0


def _tidy(plan: Plan, listed: OutputListing, leftovers: Leftovers, lease: Lease) -> Removed:
    """Remove what is superseded, and note what was read of footers."""
    removed = Removed()
    if leftovers:
        lease.take()
        lease.check()
        removed = tidy(plan.output, leftovers)
    with suppress(OSError):  # they only save time
        if not plan.nothing_to_do or plan.footers_read >= _MANY_FOOTERS or plan.hashed:
            known = with_digests(plan.source, plan.known, (file.path for file in plan.files))
            write_known_footers(plan.output, known)
        gone = set(leftovers.removable)
        held = {path: each for path, each in listed.held.items() if path not in gone}
        opened = listed.opened + sum(listed.held[path].shown != shown for path, shown in leftovers.seen.items())
        held |= {path: replace(held[path], shown=shown) for path, shown in leftovers.seen.items() if path in held}
        if not plan.nothing_to_do or removed or opened >= _MANY_FOOTERS:
            write_known(plan.output, held)
    return removed


def _annotate_items(
    plan: Plan,
    config: JobConfig,
    manifest: RunManifest,
    lease: Lease,
    tally: RunTally,
    address: str | None,
    *,
    quiet: bool,
) -> None:
    """The part of a run that needs Ray. What stops it on the way is in the tally's failures."""
    problems = Problems()
    # A table without its columns is refused here, and not by every task.
    if config.proposers.gazetteer is not None:
        with problems.noted():
            Preparation(config)
    if config.uses_aliases:
        with problems.noted():
            table = config.proposers.aliases
            load_aliases(table.path, content_hash=table.content_hash)
    check_places(plan, config, address, problems)
    if problems:
        check_broken(config, plan.source.url, plan.output.url, address, plan, problems)
        problems.raise_any()
    # Here, not above: a plan with nothing to do must not pay for Ray.
    from luke_batch.distributed.cluster import connected, stoppable
    from luke_batch.distributed.metrics import RunMetrics
    from luke_batch.distributed.pipeline import process
    from luke_batch.distributed.progress import Meter, ProgressReport
    from luke_batch.distributed.stages import Job

    with connected(address), stoppable():
        pools = check_cluster(plan, config, problems)
        with _reachable(plan.output):
            lease.take()
            # Before any commit: should this run be killed, the next one knows which version of a file was read.
            write_known_footers(plan.output, plan.known)
            write_manifest(plan.output, manifest)
        job = Job(config, plan.source, plan.output, _context(plan, config, manifest, lease))
        meter = Meter(sum(len(item.fragments) for item in plan.items), sum(item.rows for item in plan.items))
        metrics = RunMetrics(plan)
        tally.throughput.start()
        with (
            ProgressReport(meter, None if quiet else sys.stderr) as progress,
            closing(process(job, plan.items, pools)) as results,
        ):
            try:
                for result in results:
                    tally.add(result)
                    metrics.add(result)
                    progress.update(result)
                    if lease.lost:
                        lease.check()
                    if len(tally.failures) >= _FAILED_ITEMS:
                        break
            except IncompleteError as error:
                tally.failures.append(str(error))


def _context(plan: Plan, config: JobConfig, manifest: RunManifest, lease: Lease) -> RunContext:
    return RunContext(
        run_id=manifest.run_id,
        fingerprint=plan.fingerprint,
        written=config.columns,
        input=config.input,
        compression=config.output.compression,
        metadata={"models": json.dumps(manifest.models)},
        forgotten=read_forgotten(plan.output),
        lease=lease.number,
    )
