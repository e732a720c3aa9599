"""`luke-batch explain`: from a document of OUTPUT back to its run, models, source file and row."""

import json as json_text
from typing import Annotated

import typer

from luke_batch.cli.options import Json, Output


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
    from luke_batch.report.explanation_lines import lines
    from luke_batch.report.plain import plain

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
