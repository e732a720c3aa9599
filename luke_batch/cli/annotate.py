"""`luke-batch annotate`, `replay` and `demo`: runs, and what is told of them."""

import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luke_batch.base.problems import Problems
from luke_batch.cli.options import Address, Assignments, ConfigFile, ConfirmVanished, Input, Json, Output, Quiet, Where
from luke_batch.config.loading import load_config

if TYPE_CHECKING:
    from luke_batch.config import JobConfig
    from luke_batch.distributed.run import RunReport
    from luke_batch.report.summary import Summary

CORPUS = Path(__file__).parents[1] / "embedded" / "corpus.parquet"

_FRAGMENT_ROWS = 16
"""Small fragments keep every core of a laptop busy to the end, and the progress moving."""


def annotate(
    input: Input,
    output: Output,
    config: ConfigFile = None,
    assignments: Assignments = None,
    where: Where = None,
    address: Address = None,
    confirm_vanished: ConfirmVanished = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Annotate what INPUT has and OUTPUT lacks.

    Exit codes: 0 complete; 2 bad usage, configuration or input; 3 complete, but dead letters beyond the error
    budget; 4 incomplete: the same command goes on, or more of OUTPUT has vanished from INPUT than
    output.vanished_limit; 5 complete, but label shares beyond output.drift_limit;
    1 unexpected error.
    """
    settings = settings_or_problems(input, output, config, assignments)
    from luke_batch.distributed.run import annotate as run

    report = run(input, output, settings, address, where=where or [], confirm_vanished=confirm_vanished, quiet=quiet)
    summary = summarise(report)
    show(summary, quiet=quiet, json=json)
    raise typer.Exit(summary.exit_code)


def replay(
    output: Output,
    config: ConfigFile = None,
    assignments: Assignments = None,
    address: Address = None,
    input: Annotated[
        str | None,
        typer.Option("--input", metavar="INPUT", help="INPUT, where it is no longer where the last run found it."),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run the dead letters of OUTPUT again, with the INPUT and the settings of its last finished run.

    --config and --set may change what does not change results, such as actors. Exit codes: as of `annotate`;
    0 where there are no dead letters.
    """
    settings = partial(load_config, config, assignments or [], os.environ)
    from luke_batch.distributed.run import replay as run

    report = run(output, settings, address, input=input, quiet=quiet)
    if report is None:
        if json:
            typer.echo('{"exit_code": 0, "nothing_to_do": true, "verdict": "nothing to replay"}')
        elif not quiet:
            typer.echo("Nothing to replay: OUTPUT has no dead letters.")
        return
    summary = summarise(report, "replay")
    show(summary, quiet=quiet, json=json)
    raise typer.Exit(summary.exit_code)


def demo(
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder of the annotated corpus.")] = Path(
        "demo-output"
    ),
) -> None:
    """Annotate the embedded corpus on local Ray and show an excerpt."""
    from rich.console import Console

    from luke_batch.config import DEFAULT_MODEL, InputConfig, JobConfig, ModelConfig, OutputConfig
    from luke_batch.corpus.reader import read
    from luke_batch.distributed.run import annotate as run
    from luke_batch.model.engine.device import multiplies_bfloat16
    from luke_batch.report.excerpt import print_excerpt

    folder = output.absolute()
    config = JobConfig(
        input=InputConfig(lang_column="lang"),
        models={DEFAULT_MODEL: ModelConfig(precision="bfloat16" if multiplies_bfloat16() else "float32")},
        output=OutputConfig(max_rows=_FRAGMENT_ROWS),
    )
    summary = summarise(run(str(CORPUS), str(folder), config, "local"))
    if summary.missing:
        show(summary, quiet=False, json=False)
        raise typer.Exit(summary.exit_code)
    console = Console(highlight=False)
    print_excerpt(read(str(folder)).to_table(), console)
    console.print()
    show(summary, quiet=False, json=False)
    files = f"{folder}/data/**/*.parquet"
    console.print(f"\nThe annotated corpus is a dataset of Parquet files: {files}", markup=False, soft_wrap=True)
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
        removed=asdict(report.removed),
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
