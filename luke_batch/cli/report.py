"""`luke-batch report`: what the last run did, on the terminal or as one HTML file."""

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from luke_batch.base.errors import OutputError
from luke_batch.cli.options import Json, Output, Quiet


def report(
    output: Output,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained HTML file.")
    ] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN_ID", help="This run, and not the last one.")] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Show what a run did: figures, labels and scores, drift, dead letters; with --html also documents.

    Exit codes: 0 the report is made, whatever the run was like; 2 OUTPUT has no such run or cannot be used;
    1 unexpected error.
    """
    from rich.console import Console

    from luke_batch.corpus.storage import Storage
    from luke_batch.report.figures import collect
    from luke_batch.report.terminal import print_report

    figures = collect(Storage.at(output), run, samples=html is not None)
    if html is not None:
        from luke_batch.report.html import render

        page = render(figures).encode("utf-8", "replace")
        try:
            html.write_bytes(page)
        except OSError as error:
            raise OutputError(f"--html {html} cannot be written: {error.strerror}; choose another file") from None
    if json:
        typer.echo(json_text.dumps(figures.to_json(), ensure_ascii=False))
    elif html is not None and not quiet:
        typer.echo(f"report of run {figures.run.run_id}: {html}")
    elif not quiet:
        print_report(figures, Console(highlight=False))
