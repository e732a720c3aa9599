"""`luke-batch compact`: fewer, larger output files."""

import json as json_text
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from luke_batch.cli.options import Json, Output


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
    typer.echo(f"{done.before:,} files -> {done.after:,}; outputs of {done.sources:,} source files merged")
    if done.skipped:
        typer.echo(f"{done.skipped:,} source files are being replaced and were left alone: run `annotate` first")
