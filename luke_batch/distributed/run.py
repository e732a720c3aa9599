"""A whole run: check, plan, annotate on Ray, judge the state of OUTPUT.

Everything that can be refused is refused before anything is written, and a plan with nothing to do neither
starts nor imports Ray.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version

from luke_batch.annotator import check_models, model_stages, pinned
from luke_batch.columns import output_columns
from luke_batch.config import JobConfig
from luke_batch.corpus.commit import RunContext
from luke_batch.corpus.manifest import RunManifest, new_run_id, write_manifest
from luke_batch.corpus.outcome import Outcome, exit_code, reconcile, report_bad_files
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.storage import Storage
from luke_batch.corpus.sweep import sweep
from luke_batch.distributed.locations import (
    check_absolute,
    check_reachable,
    check_writable,
    with_absolute_gazetteer,
)
from luke_batch.distributed.resources import plan_pools
from luke_batch.distributed.results import ItemResult
from luke_batch.distributed.tasks import Job, preparation
from luke_batch.errors import ConfigError, IncompleteError
from luke_batch.fingerprint import GAZETTEER_FACT, fingerprint, weights_fact
from luke_batch.model.checkpoint import Checkpoint

_FAILED_ITEMS = 10
"""Work items that may fail to commit before a run gives up: a full disk fails them all."""
_LIBRARIES = ("luke-batch", "ray", "torch", "transformers", "tokenizers", "pyarrow", "sentencex")


@dataclass(slots=True)
class Tally:
    """What this run itself has done."""

    documents: int = 0
    """Committed."""
    dead: int = 0
    """Documents and fragments in the dead letters."""
    failures: list[str] = field(default_factory=lambda: list[str]())
    """Why work items are not committed."""
    renamed: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    duplicates: Counter[str] = field(default_factory=lambda: Counter[str]())
    """Documents by source file whose id an earlier one has."""

    def figures(self) -> dict[str, object]:
        """For the run manifest."""
        return {
            "documents": self.documents,
            "dead_letters": self.dead,
            "failures": self.failures,
            "duplicate_ids": dict(self.duplicates),
        }

    def add(self, result: ItemResult) -> None:
        """Count a finished work item."""
        self.documents += sum(entry.rows for entry in result.committed)
        self.dead += result.dead
        if result.error is not None:
            self.failures.append(result.error)
        for entry in result.committed:
            self.renamed.update(entry.renamed)
            if entry.duplicate_ids:
                self.duplicates[entry.source] += entry.duplicate_ids


@dataclass(frozen=True, slots=True)
class RunReport:
    """A finished run."""

    run_id: str
    exit_code: int
    """0 complete; 3 complete, but dead letters beyond the error budget; 4 incomplete."""
    plan: Plan
    """What there was to do."""
    outcome: Outcome
    """The state of OUTPUT afterwards, from a fresh listing."""
    tally: Tally
    seconds: float

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
        return renamed + duplicates


def annotate(
    input: str, output: str, config: JobConfig, address: str | None = None, *, quiet: bool = False
) -> RunReport:
    """Annotate what INPUT has and OUTPUT lacks.

    Args:
        input: file, folder, glob or hive-partitioned folder of Parquet.
        output: folder of the annotated corpus.
        config: the job.
        address: Ray cluster (`auto`, `local`, HOST:PORT); None: the Ray that runs in this process, else
            RAY_ADDRESS, else a local one for this run.
        quiet: show no progress.

    Raises:
        UsageError: something cannot be used; nothing has been written.
    """
    started = time.monotonic()
    check_absolute(input, output, config, os.environ)
    storage = Storage.at(output)
    check_writable(storage)
    found = check_models(config)
    plan = make_plan(input, storage, config, fingerprint(config, _facts(config, found)))
    planned = time.monotonic()

    now = datetime.now(UTC)
    manifest = RunManifest.start(new_run_id(now), input, plan, config.model_dump(mode="json"), now)
    versions = {name: version(name) for name in _LIBRARIES}
    manifest = replace(manifest, models=_provenance(found), versions=versions)
    tally = Tally()
    if plan.items:
        # Workers have another working directory, and would resolve a branch or a URL anew.
        fixed = pinned(with_absolute_gazetteer(config), found)
        _annotate_items(plan, fixed, manifest, tally, address, quiet=quiet)
    report_bad_files(plan, manifest.run_id)
    worked = time.monotonic()

    outcome = reconcile(plan, manifest.run_id)
    sweep(plan)
    code = exit_code(outcome, config.output.error_budget)
    if not plan.nothing_to_do:
        durations = {"plan": planned - started, "annotate": worked - planned}
        manifest = replace(manifest, durations=durations, renamed=tally.renamed, figures=tally.figures())
        write_manifest(storage, manifest.finish(outcome, code, datetime.now(UTC)))
    return RunReport(manifest.run_id, code, plan, outcome, tally, time.monotonic() - started)


def _annotate_items(
    plan: Plan, config: JobConfig, manifest: RunManifest, tally: Tally, address: str | None, *, quiet: bool
) -> None:
    """The part of a run that needs Ray. What stops it on the way is in the tally's failures."""
    if config.proposers.gazetteer is not None:
        # A names table without its column is refused here, and not by every task.
        preparation(config.model_dump_json())
    # Here, not above: a plan with nothing to do must not pay for Ray.
    from luke_batch.distributed.cluster import check_devices, connected, demands, nodes
    from luke_batch.distributed.pipeline import process
    from luke_batch.distributed.progress import Meter, ProgressReport, Totals
    from luke_batch.distributed.stopping import stoppable

    stages = model_stages(config)
    with connected(address), stoppable():
        found = nodes()
        check_reachable(plan.source, plan.output, config.output, len(found))
        pools = plan_pools(found, demands(stages), len(plan.items))
        check_devices(stages)
        write_manifest(plan.output, manifest)
        job = Job(config, plan.source, plan.output, _context(plan, config, manifest))
        totals = Totals(
            sum(len(item.fragments) for item in plan.items), sum(item.rows for item in plan.items)
        )
        stream = None if quiet else sys.stderr
        with (
            ProgressReport(Meter(totals), stream) as progress,
            closing(process(job, plan.items, pools)) as results,
        ):
            try:
                for result in results:
                    tally.add(result)
                    progress.update(result)
                    if len(tally.failures) >= _FAILED_ITEMS:
                        break
            except IncompleteError as error:
                tally.failures.append(str(error))


def _context(plan: Plan, config: JobConfig, manifest: RunManifest) -> RunContext:
    return RunContext(
        run_id=manifest.run_id,
        fingerprint=plan.fingerprint,
        written=output_columns(config),
        input=config.input,
        compression=config.output.compression,
        metadata={"models": json.dumps(manifest.models)},
    )


def _provenance(found: Mapping[str, Checkpoint]) -> dict[str, dict[str, str | None]]:
    """What the manifest and every output file say of each checkpoint: content hash and commit."""
    return {
        path: {"weights": checkpoint.weights_hash, "revision": checkpoint.revision}
        for path, checkpoint in found.items()
    }


def _facts(config: JobConfig, found: Mapping[str, Checkpoint]) -> dict[str, str]:
    """What the fingerprint needs to know beyond the configuration."""
    facts = {weights_fact(path): checkpoint.weights_hash for path, checkpoint in found.items()}
    gazetteer = config.proposers.gazetteer
    if gazetteer is not None:
        folder, _, name = gazetteer.path.rpartition("/")
        try:
            content = Storage.at(folder or ("/" if gazetteer.path.startswith("/") else ".")).read_bytes(name)
        except OSError as error:
            raise ConfigError(f"proposers.gazetteer.path {gazetteer.path} cannot be read: {error}") from error
        facts[GAZETTEER_FACT] = sha256(content).hexdigest()
    return facts
