"""`luke-batch models`: checkpoints on disk."""

from pathlib import Path
from typing import Annotated

import typer

from luke_batch.cli.add_entities import add_entities

app = typer.Typer(help="Checkpoints on disk.")
app.command("add-entities")(add_entities)


@app.callback()
def _group() -> None:  # pyright: ignore[reportUnusedFunction]: with it, a single command keeps its name
    """Checkpoints on disk."""


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="Folder, hub id or s3:// folder with a pytorch_model.bin; with --head, any."
        ),
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="DST", help="Folder to write; must not exist or be empty.")
    ],
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="ner|types|relations", help="Write this head for transformers alone."),
    ] = None,
) -> None:
    """Turn a pytorch_model.bin checkpoint into a folder with safetensors weights.

    With --head: one head of a checkpoint, `embedded` too, as transformers' own class has it, in float32.
    """
    if head is not None:
        from luke_batch.model.single_head import extract_head

        extract_head(source, head, destination)
        typer.echo(f"{destination}: {head}")
        return
    from luke_batch.model.convert import convert as convert_checkpoint

    checkpoint = convert_checkpoint(source, destination)
    typer.echo(f"{checkpoint.folder}: {', '.join(sorted(checkpoint.heads))}")
