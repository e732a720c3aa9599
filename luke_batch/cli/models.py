"""`luke-batch models`: known checkpoints, and those on disk."""

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luke_batch.cli.add_entities import add_entities
from luke_batch.cli.options import Json

if TYPE_CHECKING:
    from luke_batch.model.files.listing import Description

app = typer.Typer(help="Known checkpoints, and those on disk.")
app.command("add-entities")(add_entities)


@app.callback()
def _group() -> None:  # pyright: ignore[reportUnusedFunction]: with it, a single command keeps its name
    """Known checkpoints, and those on disk."""


@app.command("list")
def list_models(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL…]", help="`embedded`, a folder, a hub id or s3://…; without it all known."),
    ] = None,
    json: Json = False,
) -> None:
    """List the embedded model and the published checkpoints; or describe MODELs, without their weights.

    Exit codes: 0 done; 2 a MODEL cannot be used; 1 unexpected error.
    """
    from luke_batch.cli import models_text
    from luke_batch.model.files.listing import catalogue, describe, snippet

    known = catalogue()
    found = [describe(path) for path in models or ["embedded"]]
    if json and models:
        content: object = [_as_json(description, snippet(description)) for description in found]
        typer.echo(json_text.dumps({"models": content}, ensure_ascii=False, indent=2))
    elif json:
        content = {**known.model_dump(mode="json"), "embedded": _as_json(found[0], snippet(found[0]))}
        typer.echo(json_text.dumps(content, ensure_ascii=False, indent=2))
    elif models:
        typer.echo("\n\n".join(models_text.details(one, snippet(one)) for one in found))
    else:
        typer.echo(models_text.listing(known, found[0]))


def _as_json(description: "Description", configuration: str) -> dict[str, object]:
    heads = {name: facts.model_dump(mode="json") for name, facts in description.heads.items()}
    return {
        **asdict(description),
        "heads": heads,
        "lite": description.lite,
        "configuration": configuration,
    }


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="Folder, hub id or s3:// folder with a pytorch_model.bin; with --head, any."
        ),
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Folder to write; must not exist or be empty.")],
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="ner|types|relations", help="Write this head for transformers alone."),
    ] = None,
) -> None:
    """Turn a pytorch_model.bin checkpoint into a folder with safetensors weights.

    With --head: one head of a checkpoint, `embedded` too, as transformers' own class has it, in float32.
    """
    if head is not None:
        from luke_batch.model.writing.single_head import extract_head

        extract_head(source, head, destination)
        typer.echo(f"{destination}: {head}")
        return
    from luke_batch.model.writing.convert import convert as convert_checkpoint

    checkpoint = convert_checkpoint(source, destination)
    typer.echo(f"{checkpoint.folder}: {', '.join(sorted(checkpoint.heads))}")
