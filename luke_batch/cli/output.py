"""`luke-batch report`, `explain` and `compact`: what OUTPUT tells of runs and documents; its small files merged."""

import json as json_text
from dataclasses import asdict
from datetime import UTC, datetime
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


def explain(
    output: Output,
    id: Annotated[str, typer.Option("--id", metavar="ID", help="Id of the document, or <path>#<row>.")],
    json: Json = False,
) -> None:
    """Show where a document comes from: run, fingerprint, model revisions, source file and row, windows and
    dropped spans; of one in the dead letters, why.

    Exit codes: 0 found; 2 no document has this id, or OUTPUT cannot be used; 1 unexpected error.
    """
    from rich.console import Console
    from rich.text import Text

    from luke_batch.corpus.storage import Storage
    from luke_batch.report.explanation import explain as find
    from luke_batch.report.explanation import lines
    from luke_batch.report.wording import plain

    found = find(Storage.at(output), id)
    if json:
        typer.echo(json_text.dumps([each.to_json() for each in found], ensure_ascii=False))
        return
    console = Console(highlight=False)
    for number, each in enumerate(found):
        if number:
            console.print()
        for name, value in lines(each):
            console.print(Text.assemble((f"{name:<12}", "dim"), plain(value)), soft_wrap=True)


def compact(
    output: Output,
    target_mb: Annotated[
        int, typer.Option("--target-mb", metavar="N", min=1, help="Size up to which files are merged, in MB.")
    ] = 64,
    json: Json = False,
) -> None:
    """Merge the small output files of each source file. What a reader sees stays the same.

    Exit codes: 0 done, or nothing to merge; 2 OUTPUT cannot be used, or a run is at work on it; 4 stopped;
    1 unexpected error.
    """
    from luke_batch.config import OutputConfig
    from luke_batch.corpus.compaction import compact as merge
    from luke_batch.corpus.lease import Lease
    from luke_batch.corpus.manifest import new_run_id
    from luke_batch.corpus.storage import Storage

    storage = Storage.at(output)
    with Lease(storage, f"compact-{new_run_id(datetime.now(UTC))}", OutputConfig().lease_seconds) as lease:
        done = merge(storage, lease, target_mb * 10**6)
    if json:
        typer.echo(json_text.dumps(asdict(done)))
        return
    typer.echo(
        f"{done.before:,} files -> {done.after:,}; outputs of {done.sources:,} source files merged,"
        f" {done.removed:,} files removed"
    )
    if done.skipped:
        typer.echo(f"{done.skipped:,} source files are being replaced and were left alone: run `annotate` first")
