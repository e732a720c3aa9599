"""`luke-batch annotate`: a corpus from INPUT to OUTPUT."""

import os
import sys
from typing import TYPE_CHECKING

import typer

from luke_batch.base.problems import Problems
from luke_batch.cli.options import Address, Assignments, ConfigFile, Input, Json, Output, Quiet, Where
from luke_batch.config.loading import load_config

if TYPE_CHECKING:
    from luke_batch.config import JobConfig
    from luke_batch.distributed.run import RunReport
    from luke_batch.report.summary import Summary


def annotate(
    input: Input,
    output: Output,
    config: ConfigFile = None,
    assignments: Assignments = None,
    where: Where = None,
    address: Address = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Annotate what INPUT has and OUTPUT lacks.

    Exit codes: 0 complete; 2 bad usage, configuration or input; 3 complete, but dead letters beyond the error
    budget; 4 incomplete: the same command goes on; 5 complete, but label shares beyond output.drift_limit;
    1 unexpected error.
    """
    settings = settings_or_problems(input, output, config, assignments)
    from luke_batch.distributed.run import annotate as run

    summary = summarise(run(input, output, settings, address, where=where or [], quiet=quiet))
    show(summary, quiet=quiet, json=json)
    raise typer.Exit(summary.exit_code)


def settings_or_problems(input: str, output: str, config: str | None, assignments: list[str] | None) -> "JobConfig":
    """The configuration. Where it cannot be used, its error together with what is wrong with the places."""
    problems = Problems()
    with problems.noted():
        return load_config(config, assignments or [], os.environ)
    from luke_batch.distributed.planning import examine_places

    examine_places(input, output, problems)
    raise problems.error


def summarise(report: "RunReport", command: str = "annotate") -> "Summary":
    """What a person or a program is told of a run."""
    from luke_batch.corpus.manifest import without_secrets
    from luke_batch.corpus.statistics import totals
    from luke_batch.report.summary import Summary

    return Summary(
        run_id=report.run_id,
        exit_code=report.exit_code,
        output=without_secrets(report.plan.output.url),
        planned={state: tally.rows for state, tally in report.plan.tallies.items()},
        annotated=report.tally.documents,
        documents=report.outcome.documents,
        fragments=report.outcome.fragments,
        dead_documents=report.outcome.dead_documents,
        dead_files=report.outcome.dead_files,
        missing=report.outcome.missing,
        failures=report.tally.failures,
        warnings=report.warnings,
        seconds=round(report.seconds, 3),
        nothing_to_do=report.nothing_to_do,
        command=command,
        forecast=report.forecast,
        labels={kind: totals(found) for kind, found in report.tally.statistics.labels.items()},
        drift=None if report.drift is None else report.drift.figures(),
    )


def show(summary: "Summary", *, quiet: bool, json: bool) -> None:
    """A table, or one JSON object; quiet: one line on standard error where the exit code is not 0."""
    from rich.console import Console

    from luke_batch.report.summary import print_summary, to_json

    if json:
        typer.echo(to_json(summary))
    elif not quiet:
        print_summary(summary, Console(highlight=False))
    elif summary.exit_code:
        print(f"error: {summary.verdict}", file=sys.stderr)  # noqa: T201 - this is the command line
