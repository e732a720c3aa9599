"""`luke-batch estimate`: what annotating INPUT would cost."""

import json as json_text
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luke_batch.cli.options import Address, Assignments, ConfigFile, Input, Json, Quiet, Where
from luke_batch.config.loading import load_config

if TYPE_CHECKING:
    from luke_batch.distributed.estimate import Estimate

_ACTORS = (1, 2, 4, 8, 16, 32)
_ASSUMPTIONS = (
    "the sample is like the corpus, and this machine like those of the run",
    "an actor has cores (or a GPU) of its own that nothing else uses, and none waits for another",
    "the start of Ray (about 10 s) and tasks for reading and committing are not counted",
    "each document is annotated, whatever an OUTPUT has already",
)


def estimate(
    input: Input,
    config: ConfigFile = None,
    assignments: Assignments = None,
    where: Where = None,
    sample: Annotated[
        str,
        typer.Option("--sample", metavar="SHARE|N", help="1% (64 to 2,000 documents), or a number of them."),
    ] = "1%",
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, help="Cut the sample short after so many seconds.")
    ] = 60.0,
    address: Address = None,  # noqa: ARG001 - the options of `annotate` are legal here, too
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Annotate a sample of INPUT in this process, and say how long all of it would take and how large it
    would be. Nothing is written.

    Exit codes: 0; 2 bad usage, configuration or input; 1 unexpected error.
    """
    settings = load_config(config, assignments or [], os.environ)
    from luke_batch.corpus.sample import SampleSize
    from luke_batch.distributed.estimate import estimate as run

    found = run(input, settings, SampleSize.parse(sample), where=where or [], seconds=seconds)
    if json:
        typer.echo(json_text.dumps(_as_json(found), ensure_ascii=False))
    elif not quiet:
        _show(found, settings.output.compression)


def _as_json(found: "Estimate") -> dict[str, Any]:
    census, measured = found.census, found.measured
    return {
        "documents": census.documents,
        "files": len(census.files),
        "bytes": census.bytes,
        "bad": list(census.bad),
        "sample": {
            "documents": measured.documents,
            "dead": measured.dead,
            "unreadable": measured.unreadable,
            "cut_short": measured.cut_short,
            "seconds": measured.seconds,
            "load_seconds": measured.load_seconds,
            "stages": measured.stages,
        },
        "documents_per_second": 1 / found.seconds_per_document,
        "here": {
            "cpus": found.node.cpus,
            "gpus": found.node.gpus,
            "actors": found.actors,
            "seconds": found.seconds_here,
        },
        "by_actors": [{"actors": actors, "seconds": found.seconds(actors)} for actors in _ACTORS],
        "output": {"files": census.fragments, "bytes": round(found.output_bytes)},
        "peak_memory": found.peak_memory,
        "assumptions": _ASSUMPTIONS,
    }


def _show(found: "Estimate", compression: str) -> None:
    from luke_batch.report.wording import duration, size

    census, measured = found.census, found.measured
    bad = f"; {len(census.bad):,} files cannot be used" if census.bad else ""
    dead = f", {measured.dead:,} of them dead letters" if measured.dead else ""
    short = ", cut short by --seconds" if measured.cut_short else ""
    unreadable = f"; {measured.unreadable:,} places could not be read" if measured.unreadable else ""
    actors = ", ".join(f"{count} of {name}" for name, count in found.actors.items())
    scale = ", ".join(f"{actors}: {duration(found.seconds(actors))}" for actors in _ACTORS)
    lines = {
        "corpus": f"{census.documents:,} documents in {len(census.files):,} files, {size(census.bytes)}{bad}",
        "sample": (
            f"{measured.documents:,} documents in {measured.seconds:,.1f} s{short}, after"
            f" {measured.load_seconds:,.1f} s to load the models{dead}{unreadable}"
        ),
        "one actor": f"{1 / found.seconds_per_document:,.2f} documents a second",
        "time here": f"about {duration(found.seconds_here)} ({found.node.cpus:g} cores; actors: {actors})",
        "by actors": scale,
        "output": f"about {size(found.output_bytes)} in {census.fragments:,} files ({compression})",
        "memory": f"{size(found.peak_memory)} at most in this process, which had all models loaded",
    }
    for name, text in lines.items():
        typer.echo(f"{name:<11}{text}")
    for assumption in _ASSUMPTIONS:
        typer.echo(f"assumed: {assumption}")
