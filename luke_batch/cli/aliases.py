"""`luke-batch aliases`: the alias table of entity linking."""

import json as json_text
from dataclasses import asdict
from typing import Annotated

import typer

from luke_batch.cli.options import Json

app = typer.Typer(help="Alias tables: which names link to which titles, and how often.")


@app.callback()
def _group() -> None:  # pyright: ignore[reportUnusedFunction]: with it, a single command keeps its name
    """Alias tables: which names link to which titles, and how often."""


Out = Annotated[str, typer.Argument(metavar="OUT", help="Parquet file to write, or s3://…")]
Mentions = Annotated[
    list[str] | None,
    typer.Option(
        "--mentions",
        metavar="PATH",
        help="Documents with linked mentions: `text`, and `links` or `mentions` with titles. A Parquet "
        "file, a folder, a glob or an OUTPUT of `annotate`; may be repeated.",
    ),
]
Anchors = Annotated[
    list[str] | None,
    typer.Option("--anchors", metavar="PATH", help="Parquet with name, title, count, qid; may be repeated."),
]
Redirects = Annotated[
    list[str] | None,
    typer.Option("--redirects", metavar="PATH", help="Parquet with source and target, titles; may be repeated."),
]
Qids = Annotated[
    list[str] | None,
    typer.Option(
        "--qids",
        metavar="PATH",
        help="Parquet with title and qid: Wikidata ids, which go before others; may be repeated.",
    ),
]
MinCount = Annotated[
    int, typer.Option("--min-count", metavar="N", min=1, help="Leave out pairs with fewer links than this.")
]
TextColumn = Annotated[str, typer.Option("--text-column", metavar="NAME", help="Column with the text of --mentions.")]


@app.command()
def build(
    out: Out,
    mentions: Mentions = None,
    anchors: Anchors = None,
    redirects: Redirects = None,
    qids: Qids = None,
    min_count: MinCount = 1,
    text_column: TextColumn = "text",
    json: Json = False,
) -> None:
    """Count links into an alias table.

    Exit codes: 0 done; 2 bad usage, or an input or OUT cannot be used; 1 unexpected error.
    """
    from luke_batch.titles.alias_table import build_aliases

    built = build_aliases(
        out,
        mentions or [],
        anchors or [],
        redirects or [],
        qids=qids or [],
        min_count=min_count,
        text_column=text_column,
    )
    if json:
        typer.echo(json_text.dumps(asdict(built)))
        return
    typer.echo(
        f"{out}: {built.names:,} names of {built.titles:,} titles in {built.rows:,} rows, from {built.links:,} links"
    )
    for reason, count in built.skipped.items():
        typer.echo(f"  left out: {count:,} × {reason}")
