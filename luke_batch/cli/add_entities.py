"""`luke-batch models add-entities`: titles for a checkpoint that lacks them."""

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from luke_batch.cli.options import Json


def add_entities(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="`embedded`, a folder, hub id or s3:// folder.")],
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="Parquet with title and description, or text with links to titles: file, folder or glob, or s3://…",
        ),
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Folder to write; must not exist or be empty.")],
    text_column: Annotated[
        str, typer.Option("--text-column", metavar="NAME", help="Column with the text of links.")
    ] = "text",
    title_language: Annotated[
        str, typer.Option("--title-language", metavar="CODE", help="Language of titles that name none.")
    ] = "en",
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where the mentions are read.")
    ] = "auto",
    json: Json = False,
) -> None:
    """Write a copy of a checkpoint that knows further titles, from their mentions or a description.

    Nothing is trained. Titles that it has keep their vectors, and their scores, bit for bit.

    Exit codes: 0 done; 2 bad usage, or MODEL, TABLE or DST cannot be used; 1 unexpected error.
    """
    from luke_batch.titles.add import add_entities as add

    added = add(model, table, destination, text_column=text_column, title_language=title_language, device=device)
    if json:
        typer.echo(json_text.dumps(asdict(added)))
        return
    typer.echo(
        f"{destination}: {added.added:,} titles added, from {added.mentions:,} mentions; "
        f"{added.existing:,} were there already"
    )
    for reason, count in added.skipped.items():
        typer.echo(f"  left out: {count:,} × {reason}")
