"""What `annotate` and `plan` do alike, and before anything else: checks, fingerprint, plan. Ray is not loaded, and
torch only where a precision has to be tried.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from luke_batch.annotate.annotator import check_models
from luke_batch.base.errors import ConfigError, OutputError
from luke_batch.base.problems import Problems
from luke_batch.config import EMBEDDED, AliasConfig, GazetteerConfig, JobConfig
from luke_batch.config.fingerprint import ALIASES_FACT, GAZETTEER_FACT, fingerprint, weights_fact
from luke_batch.corpus.access import check_writable
from luke_batch.corpus.committed import list_or_refuse
from luke_batch.corpus.drift import baseline_of
from luke_batch.corpus.manifest import RunManifest, latest_manifest, recorded_input
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.sample import count as count_documents
from luke_batch.corpus.sources import Restriction, list_sources
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.precision import resolve_precision
from luke_batch.distributed.preflight import check_absolute, is_relative
from luke_batch.isolation.trial import footer_trial
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.text.names.aliases import aliases_hash
from luke_batch.text.names.content import check_content


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that may run."""

    plan: Plan
    config: JobConfig
    """Without `precision: auto`."""
    agreements: Mapping[str, str]
    """What was tried for it, by the paths of checkpoints."""
    checkpoints: Mapping[str, Checkpoint]
    """By their paths in the configuration."""
    tables: Mapping[str, str]
    """See `table_hashes`."""


def prepare(
    input: str, output: str, config: JobConfig, where: Sequence[str] = (), same_as: RunManifest | None = None
) -> Prepared:
    """Check a job and plan it; nothing is written.

    Args:
        input, output, config: the job. where: `key=value` texts, see `Restriction.parse`. same_as: a run
        whose fingerprint the job must have.

    Raises:
        UsageError: something cannot be used; PreflightError where several things cannot.
    """
    problems = Problems()
    prepared = examine(input, output, config, problems, where, same_as)
    problems.raise_any()
    assert prepared is not None
    return prepared


def examine(
    input: str,
    output: str,
    config: JobConfig,
    problems: Problems,
    where: Sequence[str] = (),
    same_as: RunManifest | None = None,
) -> Prepared | None:
    """`prepare`, which notes everything that cannot be used; None where there is something.

    Parts of a job that could be planned only with the broken ones are looked at by themselves.
    """
    restriction, storage, found = Restriction(), None, None
    with problems.noted():
        restriction = Restriction.parse(where)
    with problems.noted():
        check_absolute(input, output, config, os.environ)
    with problems.noted():
        storage = Storage.at(output)
        check_writable(storage)
    with problems.noted():
        tables = table_hashes(config)
        found = check_models(config)
        if storage is not None and not problems:
            facts = {**tables, **_weights(found)}
            resolved = resolve_precision(input, storage, config, facts, restriction)
            computed = fingerprint(resolved.config, facts)
            _check_same_fingerprint(computed, same_as)
            if config.output.drift_baseline is not None:
                baseline_of(storage, "", config.output.drift_baseline)
            plan = make_plan(input, storage, resolved.config, computed, restriction, footer_trial(config.isolation))
            _check_same_corpus(input, plan)
            return Prepared(plan, resolved.config, resolved.agreements, found, tables)
    if found is None:
        with problems.noted():  # where the names table was the reason
            check_models(config)
    with problems.noted():
        count_documents(input, config, restriction, footer_trial(config.isolation))
    if storage is not None:
        with problems.noted():
            list_or_refuse(storage)
    return None


def examine_places(input: str, output: str, problems: Problems) -> None:
    """Note what is wrong with INPUT and OUTPUT where nothing is known of the configuration."""
    with problems.noted():
        list_sources(input)
    with problems.noted():
        storage = Storage.at(output)
        check_writable(storage)
        list_or_refuse(storage)


def _check_same_fingerprint(computed: str, same_as: RunManifest | None) -> None:
    if same_as is not None and computed != same_as.fingerprint:
        raise ConfigError(
            f"run {same_as.run_id} had the fingerprint {same_as.fingerprint}, and this would have {computed}:"
            " a setting, model or library that changes results is another; run `luke-batch annotate` instead"
        )


def _check_same_corpus(input: str, plan: Plan) -> None:
    """Refuse to prune everything because INPUT is another one: all its files would seem to have vanished."""
    known = {state: tally.files for state, tally in plan.tallies.items() if tally.files}
    if plan.on_vanished != "prune" or not known.get("vanished") or not set(known) <= {"vanished", "new", "bad"}:
        return
    last = latest_manifest(plan.output, lambda run: run.outcome is not None)
    if last is not None and last.input != recorded_input(input):
        raise OutputError(
            f"OUTPUT {plan.output.url} was made from {last.input}, of which INPUT {input} has no file, and"
            " output.on_vanished is prune; choose another OUTPUT, or --set output.on_vanished=keep"
        )


def _weights(found: Mapping[str, Checkpoint]) -> dict[str, str]:
    return {weights_fact(path): checkpoint.weights_hash for path, checkpoint in found.items()}


def table_hashes(config: JobConfig) -> dict[str, str]:
    """The content hashes of the tables of names in use, by their keys in `proposers`, which are those of the
    fingerprint's facts.

    Raises ConfigError or InputError where one cannot be read or has another hash than is asked for.
    """
    hashes: dict[str, str] = {}
    aliases, gazetteer = config.proposers.aliases, config.proposers.gazetteer
    if config.uses_aliases:
        hashes[ALIASES_FACT] = aliases_hash(aliases.path)
        check_content(f"alias table {aliases.path}", hashes[ALIASES_FACT], aliases.content_hash)
    if gazetteer is not None:
        hashes[GAZETTEER_FACT] = _gazetteer_hash(gazetteer)
        check_content(f"gazetteer {gazetteer.path}", hashes[GAZETTEER_FACT], gazetteer.content_hash)
    return hashes


def with_pinned_tables(config: JobConfig, hashes: Mapping[str, str]) -> JobConfig:
    """The same job for workers, whose working directory is another: the tables of names by absolute paths and by
    `hashes`, as from `table_hashes`. A worker that finds another content refuses it.
    """
    tables: dict[str, GazetteerConfig | AliasConfig] = {}
    for key, table in (("gazetteer", config.proposers.gazetteer), ("aliases", config.proposers.aliases)):
        if table is not None and key in hashes:
            fixed = table.path == EMBEDDED or not is_relative(table.path)
            path = table.path if fixed else str(Path(table.path).absolute())
            tables[key] = table.model_copy(update={"path": path, "content_hash": hashes[key]})
    proposers = config.proposers.model_copy(update=tables)
    return config.model_copy(update={"proposers": proposers})


def _gazetteer_hash(gazetteer: GazetteerConfig) -> str:
    folder, _, name = gazetteer.path.rpartition("/")
    try:
        content = Storage.at(folder or ("/" if gazetteer.path.startswith("/") else ".")).read_bytes(name)
    except OSError as error:
        raise ConfigError(f"proposers.gazetteer.path {gazetteer.path} cannot be read: {error}") from error
    return sha256(content).hexdigest()
