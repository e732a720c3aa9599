"""What a person is told of a build and of a search."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from luke_batch.index.build import BuiltIndex


def summary(built: BuiltIndex) -> Iterator[str]:
    """A few lines."""
    manifest = built.version.manifest
    folder = built.version.folder.parent.parent
    if built.nothing_to_do:
        yield f"Nothing to do: {folder} holds these fragments already."
        return
    changes = manifest.changes
    kinds = ("new", "replaced", "removed", "kept")
    yield f"fragments  {', '.join(f'{changes[kind]:,} {kind}' for kind in kinds)}"
    yield (
        f"entities   {manifest.entities:,} of {manifest.mentions:,} mentions; {changes['entities_changed']:,}"
        f" new or changed, {changes['entities_removed']:,} removed"
    )
    vectors = manifest.vectors
    cells = f", {vectors['partitions']:,} cells, {vectors['probes']:,} probed" if vectors["partitions"] else ""
    yield f"vectors    {manifest.dimension} dimensions, {vectors['variant']}{cells}"
    recall = manifest.recall
    if recall is not None:
        found = f"{recall['value']:.3f} of exact search, {recall['sample']:,} entities sampled"
        yield f"recall@{recall['depth']}  {found}"
    yield f"index      {folder}, version {manifest.number}, {built.seconds:,.1f} s"


def print_answer(answer: Mapping[str, Any], console: Console) -> None:
    """A table of what a query has found. What is not printable in names is blanked: they are of documents."""
    entity, others = answer["entity"], len(answer["same_name"])
    title = answer["query"] if entity is None else f"{entity['name']} ({entity['key']}, {entity['count']:,} mentions)"
    if others:
        title += f", one of {others + 1} entities of that name"
    console.print(_shown(title), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("cosine", "name", "label", "mentions", "languages", "key"):
        table.add_column(name, justify="right" if name in ("cosine", "mentions") else "left", overflow="fold")
    for hit in answer["found"]:
        languages = " ".join(hit["languages"])
        cells = (f"{hit['score']:.3f}", hit["name"], hit["label"] or "", f"{hit['count']:,}", languages, hit["key"])
        table.add_row(*map(_shown, cells))
    console.print(table if answer["found"] else _shown("nothing found"))


def _shown(value: object) -> Text:
    return Text("".join(character if character.isprintable() else " " for character in str(value)))
