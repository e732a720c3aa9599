"""`luke-batch replay`: the dead letters of OUTPUT once more."""

import os
from functools import partial
from typing import Annotated

import typer

from luke_batch.cli.annotate import show, summarise
from luke_batch.cli.options import Address, Assignments, ConfigFile, Json, Output, Quiet
from luke_batch.config.loading import load_config


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
