"""`luke-batch models`: known checkpoints, and those on disk."""

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luke_batch.cli.add_entities import add_entities
from luke_batch.cli.options import Json

if TYPE_CHECKING:
    from luke_batch.model.files.facts import HeadFacts
    from luke_batch.model.files.listing import Catalogue, Description, Published

_LABELS_SHOWN = 12

app = typer.Typer(help="Known checkpoints, and those on disk.")
app.command("add-entities")(add_entities)


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
        typer.echo("\n\n".join(_details(one, snippet(one)) for one in found))
    else:
        typer.echo(_listing(known, found[0]))


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


def _listing(catalogue: "Catalogue", embedded: "Description") -> str:
    """The embedded model and every published checkpoint."""
    from luke_batch.model.files.listing import FOLDER

    heads = ", ".join(
        f"{name} ({len(facts.labels)} labels)" if facts.labels else name
        for name, facts in embedded.heads.items()
        if name != "spans"  # no head of a job: it serves `spans: auto`
    )
    size = f"{embedded.layers} layers of {embedded.hidden_size}, {embedded.words:,} word pieces"
    first = [
        f"embedded  {catalogue.licence}; NOTICE names the works that its weights derive from",
        f"  in the package: {heads}",
        f"  {size}, {embedded.titles:,} titles",
        "  used without any configuration",
    ]
    entries = ["\n".join(_published(catalogue, model)) for model in catalogue.models]
    last = [
        "Scores are in percent and their authors'; this project has not measured them.",
        "Where the hub has pytorch_model.bin alone: luke-batch models convert ID DST",
        f"Configurations are in {FOLDER}:",
        "  luke-batch annotate INPUT OUTPUT --config FILE [--set models.main.path=DST]",
        "More of one: luke-batch models list MODEL",
    ]
    return "\n\n".join(["\n".join(first), *entries, "\n".join(last)])


def _published(catalogue: "Catalogue", model: "Published") -> list[str]:
    size = catalogue.sizes[model.size]
    titles = "no titles" if model.lite else f"{size.entities:,} entities of 256 numbers"
    lines = [
        f"{model.id}  {catalogue.licence}",
        f"  {model.architecture}, {model.languages}",
        f"  {size.layers} layers of {size.hidden}, {round(size.parameters / 1e6)} M parameters, {titles}",
    ]
    for score in model.scores:
        after = f" after {score.after}" if score.after else ""
        lines.append(f"  {score.task} {score.metric} {score.value}{after} ({score.source})")
    return [*lines, f"  configuration: {model.configuration_file.name}"]


def _details(found: "Description", snippet: str) -> str:
    """One checkpoint, and the configuration that uses it."""
    entities = "lite: special entries alone" if found.lite else f"{found.titles:,} titles"
    rows = {
        "class": ", ".join(found.architectures) or "not told",
        "size": f"{found.layers} layers of {found.hidden_size}, {found.words:,} rows of words",
        "tokenizer": found.tokenizer,
        "entities": f"{found.entities:,} rows, {entities}",
        "attention": "entity-aware" if found.entity_aware else "not entity-aware",
        "context": found.context or "not told",
        "weights": found.weights,
    }
    lines = [found.path, *(f"  {name + ':':<12}{value}" for name, value in rows.items()), "", "heads"]
    for name, facts in found.heads.items():
        lines.append(f"  {name + ':':<12}{'; '.join(_facts(facts)) or 'no labels'}")
    if found.weights == "pytorch_model.bin":
        lines += ["", f"Its weights are a pickle: luke-batch models convert {found.path} DST"]
    return "\n".join([*lines, "", "configuration", "", snippet.rstrip()])


def _facts(facts: "HeadFacts") -> list[str]:
    """Labels, how they exclude one another, and the calibration; nothing for a head without labels."""
    found: list[str] = []
    if facts.labels:
        more = len(facts.labels) - _LABELS_SHOWN
        shown = ", ".join(facts.labels[:_LABELS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        several: dict[bool | None, str] = {
            None: "one or several: not told",
            True: "several at a time",
            False: "one at a time",
        }
        found += [f"{len(facts.labels)} labels: {shown}", several[facts.multi_label]]
    told = {
        "{} means nothing": facts.none_label,
        "calibrated, temperature {:g}": None if facts.temperature == 1 else facts.temperature,
        "an offset for each label": True if facts.offsets else None,
        "weight of priors {:g}": facts.prior_weight,
        "score of none {:g}": facts.nil_score,
        "threshold {:g}": facts.threshold,
        "spans of up to {} words": facts.max_words,
    }
    found += [text.format(value) for text, value in told.items() if value is not None]
    return found
