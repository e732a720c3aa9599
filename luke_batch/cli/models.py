"""`luke-batch models`: checkpoints on disk."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Checkpoints on disk.")


@app.callback()
def _group() -> None:  # pyright: ignore[reportUnusedFunction]: with it, a single command keeps its name
    """Checkpoints on disk."""


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Folder, hub id or s3:// folder with a pytorch_model.bin.")
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="DST", help="Folder to write; must not exist or be empty.")
    ],
) -> None:
    """Turn a pytorch_model.bin checkpoint into a folder with safetensors weights."""
    from luke_batch.model.convert import convert as convert_checkpoint

    checkpoint = convert_checkpoint(source, destination)
    typer.echo(f"{checkpoint.folder}: {', '.join(sorted(checkpoint.heads))}")
