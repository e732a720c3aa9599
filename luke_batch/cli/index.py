"""`luke-batch index`: entity embedding indexes."""

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luke_batch.cli.options import Address, Json, Quiet, Shared

if TYPE_CHECKING:
    from luke_batch.index.build import BuiltIndex
    from luke_batch.index.search import EntityIndex
    from luke_batch.index.settings import IndexConfig

app = typer.Typer(help="Build and search an index of entity vectors.")

Index = Annotated[str, typer.Argument(metavar="INDEX", help="Folder of the index.")]
_NONE = "none"


AnnotatedOption = Annotated[
    list[str], typer.Argument(metavar="ANNOTATED", help="OUTPUT of `annotate`, local or s3://…; one or several.")
]
Column = Annotated[
    str | None,
    typer.Option(
        "--column",
        metavar="mention_embeddings|entity_embeddings",
        help="Column with the vectors (default mention_embeddings).",
    ),
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="qid|title|surface",
        help="What names an entity, first choice first; may be repeated (default all three).",
    ),
]
Case = Annotated[str | None, typer.Option("--case", metavar="fold|keep", help="Of surfaces (default fold).")]
Normalise = Annotated[
    bool | None, typer.Option("--normalise/--no-normalise", help="Scale mention vectors to length 1 first.")
]
IdColumn = Annotated[str | None, typer.Option("--id-column", metavar="NAME", help="Names a document (default id).")]
TextColumn = Annotated[
    str | None, typer.Option("--text-column", metavar="NAME", help="Text of a document (default text).")
]
LangColumn = Annotated[
    str | None, typer.Option("--lang-column", metavar="NAME", help="Language of a document (default lang); or `none`.")
]
Contexts = Annotated[int | None, typer.Option("--contexts", help="Sample contexts of an entity (default 3).")]
Kind = Annotated[str | None, typer.Option("--kind", metavar="lance", help="Vector index; there is no other.")]
Variant = Annotated[
    str | None,
    typer.Option("--variant", metavar="auto|exact|IVF_FLAT|IVF_RQ|…", help="Of the vector index (default auto)."),
]
Partitions = Annotated[
    int | None, typer.Option("--partitions", help="Cells of the vector index (default by its size).")
]
Probes = Annotated[int | None, typer.Option("--probes", help="Cells that a query looks into (default 16 or more).")]
RecallFloor = Annotated[
    float | None, typer.Option("--recall-floor", help="Warn where recall@10 is below (default 0.9).")
]
RecallSample = Annotated[
    int | None, typer.Option("--recall-sample", help="Entities it is measured on (default 100; 0: none).")
]


@app.command("build")
def build(
    annotated: AnnotatedOption,
    index: Index,
    column: Column = None,
    keys: Keys = None,
    case: Case = None,
    normalise: Normalise = None,
    id_column: IdColumn = None,
    text_column: TextColumn = None,
    lang_column: LangColumn = None,
    contexts: Contexts = None,
    kind: Kind = None,
    variant: Variant = None,
    partitions: Partitions = None,
    probes: Probes = None,
    recall_floor: RecallFloor = None,
    recall_sample: RecallSample = None,
    shared: Shared = False,
    address: Address = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make INDEX hold what ANNOTATED holds now: only what is new, changed or gone is worked on.

    Options that are left out are those that INDEX was built with. A killed build leaves the old version, and
    the same command goes on.

    Exit codes: 0 done, or nothing to do; 2 bad usage, or ANNOTATED or INDEX cannot be used; 4 stopped: the
    same command goes on; 1 unexpected error.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    from luke_batch.distributed.index import build_index

    config = configured(index, given)
    silent = quiet or json

    def tell(line: str) -> None:
        if not silent:
            print(line, file=sys.stderr)  # noqa: T201 - this is the command line

    built = build_index(annotated, index, config, address, shared=shared, tell=tell)
    _show_built(built, quiet=quiet, json=json)


@app.command("search")
def search(
    index: Index,
    queries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[QUERY]…",
            help="Name, key or Wikidata item of an entity, or a text with its mention in [[brackets]].",
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Entities to find for each query.")] = 10,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Only entities of this label; may be repeated.")
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option("--language", help="Only entities of documents in this language; may be repeated."),
    ] = None,
    least: Annotated[int, typer.Option("--min-count", min=1, help="Only entities with so many mentions.")] = 1,
    file: Annotated[
        str | None, typer.Option("--queries", metavar="FILE", help="File with further queries, one a line.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each query, one a line.")] = False,
) -> None:
    """Find the entities whose vectors are nearest.

    Exit codes: 0 done; 2 bad usage, no such entity, or INDEX cannot be used; 1 unexpected error.
    """
    from rich.console import Console

    from luke_batch.base.errors import UsageError
    from luke_batch.index.search import EntityIndex
    from luke_batch.index.summary import print_answer

    asked = [*(queries or []), *(_lines(file) if file is not None else [])]
    if not asked:
        raise UsageError("index search: give a query, or --queries FILE")
    opened = EntityIndex.open(index)
    answers = _answers(opened, asked, k, labels=label or [], languages=language or [], least=least)
    console = Console(highlight=False)
    for answer in answers:
        if json:
            typer.echo(json_text.dumps(answer, ensure_ascii=False))
        else:
            print_answer(answer, console)


def configured(index: str, given: dict[str, Any]) -> "IndexConfig":
    """The settings of a build: those given, else those that the index has, else the defaults."""
    from pydantic import ValidationError

    from luke_batch.base.errors import ConfigError
    from luke_batch.index.settings import IndexConfig, Policy, SearchSettings
    from luke_batch.index.versions import IndexFolder

    current = IndexFolder(index).current()
    base = IndexConfig() if current is None else current.config
    if given.get("lang_column") == _NONE:
        given = {**given, "lang_column": None}
    parts = {
        "policy": {name: given[name] for name in Policy.model_fields if name in given},
        "search": {name: given[name] for name in SearchSettings.model_fields if name in given},
    }
    try:
        return IndexConfig(
            policy=Policy.model_validate({**base.policy.model_dump(), **parts["policy"]}),
            search=SearchSettings.model_validate({**base.search.model_dump(), **parts["search"]}),
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = "-".join(str(part) for part in first["loc"][:1]).replace("_", "-")
        raise ConfigError(f"--{name} {first['input']!r}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def _lines(path: str) -> list[str]:
    from luke_batch.base.errors import InputError

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--queries {path} cannot be read: {error}") from error
    return [line for line in text.splitlines() if line.strip()]


def _show_built(built: "BuiltIndex", *, quiet: bool, json: bool) -> None:
    manifest = built.version.manifest
    if json:
        from dataclasses import asdict

        typer.echo(
            json_text.dumps(
                {
                    "index": str(built.version.folder.parent.parent),
                    "nothing_to_do": built.nothing_to_do,
                    "warnings": list(built.warnings),
                    "total_seconds": round(built.seconds, 3),
                    **asdict(manifest),
                },
                ensure_ascii=False,
            )
        )
        return
    if not quiet:
        from luke_batch.index.summary import summary

        for line in summary(built):
            typer.echo(line)
    for warning in built.warnings:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201 - this is the command line


def _answers(
    index: "EntityIndex", asked: list[str], k: int, *, labels: list[str], languages: list[str], least: int
) -> list[dict[str, Any]]:
    """One object for each query: the entity that it names, how many others bear that name, and what was found."""
    found = index.search(asked, k, labels=labels, languages=languages, least=least)
    rows: list[list[dict[str, Any]]] = [[] for _ in asked]
    for row in found.to_pylist():
        rows[row.pop("query")].append(row)
    answers: list[dict[str, Any]] = []
    for query, own, hits in zip(asked, index.resolve(asked), rows, strict=True):
        named = [] if own is None else index.named(query).select(["key", "name", "label", "count"]).to_pylist()
        answers.append({"query": query, "entity": named[0] if named else None, "same_name": named[1:], "found": hits})
    return answers
