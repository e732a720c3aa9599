"""A readable excerpt of an annotated corpus on a terminal: some documents, nearest neighbours of some mentions, counts.

Everything that comes from a document goes into `rich.text.Text`, which reads no markup, and through `plain`. Neighbours
are found by brute force over all mentions of the table: n mentions of dimension d cost one (queries, n) product, which
suits a demonstration and not a corpus.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from luke_batch.base.arrays import FloatArray
from luke_batch.report.samples import Mark, ShownEntity, ShownRelation, content, sample_of
from luke_batch.report.wording import plain

Row = Mapping[str, Any]
"""One document as `Table.to_pylist` gives it."""

_DOCUMENTS = 6
_QUERIES = 5
_NEIGHBOURS = 3
_LABEL_COLUMNS = 6
_KNOWN_COLOURS = {"PER": "magenta", "ORG": "cyan", "LOC": "green", "MISC": "yellow"}
_OTHER_COLOURS = ("blue", "red", "bright_magenta", "bright_cyan", "bright_green", "bright_yellow")
_MAX_CHARACTERS = 420
_MAX_LINES = 4
_LINES = "\n\t"
"""Controls of a text that stay."""


@dataclass(frozen=True, slots=True)
class MentionVectors:
    """The mentions of a table that have a vector: their documents, surfaces and unit vectors."""

    rows: NDArray[np.int64]
    surfaces: list[str]
    labels: list[str | None]
    vectors: FloatArray

    @classmethod
    def of(cls, table: pa.Table) -> Self:
        """From the columns `mentions` and `mention_embeddings`."""
        mentions = table["mentions"].combine_chunks()
        embeddings = table["mention_embeddings"].combine_chunks()
        each, vectors = mentions.flatten(), embeddings.flatten()
        kept = np.flatnonzero(vectors.is_valid().to_numpy(zero_copy_only=False))
        counts = mentions.value_lengths().fill_null(0).to_numpy()
        rows = np.repeat(np.arange(len(mentions)), counts)
        matrix = vectors.drop_null().flatten().cast(pa.float32()).to_numpy().reshape(len(kept), -1)
        norms = np.linalg.norm(matrix, axis=1, keepdims=True)
        return cls(
            rows=rows[kept],
            surfaces=each.field("text").take(pa.array(kept)).to_pylist(),
            labels=each.field("label").take(pa.array(kept)).to_pylist(),
            vectors=matrix / np.maximum(norms, np.finfo(np.float32).tiny),
        )

    def nearest(self, query: int, count: int) -> list[tuple[int, float]]:
        """The `count` mentions nearest to mention `query` with their cosines, each surface once and not its
        own.
        """
        cosines = self.vectors @ self.vectors[query]
        seen = {self.surfaces[query].casefold()}
        found: list[tuple[int, float]] = []
        for index in np.argsort(-cosines, kind="stable").tolist():
            surface = self.surfaces[index].casefold()
            if surface not in seen:
                seen.add(surface)
                found.append((index, float(cosines[index])))
            if len(found) == count:
                break
        return found


def print_excerpt(table: pa.Table, console: Console) -> None:
    """Show `table`, one row a document, with the columns `id`, `title`, `lang` and `text`."""
    # vectors as Python lists are slow and of no use here
    lists = [name for name in table.column_names if name not in ("mention_embeddings", "text_embedding")]
    rows = cast("list[dict[str, Any]]", table.select(lists).to_pylist())
    shown = _worth_showing(rows)
    for index in shown:
        console.print(annotated_panel(rows[index], f"{rows[index]['title']} ({rows[index]['lang']})"))
    if "mention_embeddings" in table.column_names:
        _print_neighbours(MentionVectors.of(table), rows, shown, console)
    _print_counts(rows, console)


def _worth_showing(rows: Sequence[Row]) -> list[int]:
    """One document a language, those with the most kinds of relations and of mentions first."""
    best: dict[str, int] = {}
    for index in sorted(range(len(rows)), key=lambda index: content(rows[index])[:2], reverse=True):
        best.setdefault(rows[index]["lang"], index)
    return list(best.values())[:_DOCUMENTS]


def _print_neighbours(vectors: MentionVectors, rows: Sequence[Row], shown: Sequence[int], console: Console) -> None:
    queries = _queries(vectors, shown)
    if not queries:
        return
    found = Table(title="Nearest mentions by embedding", title_justify="left", box=None, pad_edge=False)
    for heading in ("mention", "nearest", "cosine", "in"):
        found.add_column(heading, justify="right" if heading == "cosine" else "left")
    for query in queries:
        name = Text(plain(vectors.surfaces[query]), style=label_style(vectors.labels[query]))
        for index, cosine in vectors.nearest(query, _NEIGHBOURS):
            near = Text(plain(vectors.surfaces[index]), style=label_style(vectors.labels[index]))
            found.add_row(
                name, near, f"{cosine:.2f}", Text(plain(str(rows[vectors.rows[index]]["title"])), style="dim")
            )
            name = Text()
    console.print()
    console.print(found)


def _queries(vectors: MentionVectors, shown: Sequence[int]) -> list[int]:
    """The first mention of each shown document whose surface is new, labels in turn."""
    queries: list[int] = []
    surfaces: set[str] = set()
    labels: Counter[str | None] = Counter()
    for row in shown:
        here = [index for index, each in enumerate(vectors.rows.tolist()) if each == row]
        fresh = [index for index in here if vectors.surfaces[index] not in surfaces]
        if fresh:
            query = min(fresh, key=lambda index: labels[vectors.labels[index]])
            queries.append(query)
            surfaces.add(vectors.surfaces[query])
            labels[vectors.labels[query]] += 1
    return queries[:_QUERIES]


def _print_counts(rows: Sequence[Row], console: Console) -> None:
    labels: Counter[str] = Counter()
    by_language: dict[str, Counter[str]] = {}
    for row in rows:
        mentions: list[dict[str, Any]] = row["mentions"] or []
        here = Counter(str(mention["label"]) for mention in mentions if mention["label"])
        labels.update(here)
        counts = by_language.setdefault(str(row["lang"]), Counter())
        counts.update({f"label {label}": count for label, count in here.items()})
        counts.update(documents=1, mentions=len(mentions), relations=len(row.get("relations") or []))
    columns = [label for label, _ in labels.most_common(_LABEL_COLUMNS)]
    keys = ["documents", "mentions", *(f"label {label}" for label in columns), "relations"]
    found = Table(title="Counts by language", title_justify="left", box=None, pad_edge=False)
    found.add_column("language")
    for heading in ("documents", "mentions", *columns, "relations"):
        found.add_column(
            Text(plain(heading), style=label_style(heading) if heading in columns else ""), justify="right"
        )
    for language, counts in sorted(by_language.items()):
        found.add_row(Text(plain(language)), *(str(counts[key]) for key in keys))
    total = sum(by_language.values(), Counter[str]())
    found.add_row("all", *(str(total[key]) for key in keys), style="bold")
    console.print()
    console.print(found)


def label_style(label: str | None) -> str:
    """The colour of a label, the same in every run."""
    if label is None:
        return "bold"
    other = _OTHER_COLOURS[crc32(label.encode()) % len(_OTHER_COLOURS)]
    return f"bold {_KNOWN_COLOURS.get(label, other)}"


def annotated_panel(row: Row, title: str) -> Panel:
    """A framed excerpt of one document: its text with the mentions marked, then types and relations in words."""
    sample = sample_of(row, "", _MAX_CHARACTERS)
    parts = [_marked(sample.parts)]
    if sample.shown < len(row["text"].rstrip()):
        parts[0].append(" …", style="dim")
    types = [_types(entity) for entity in sample.entities if entity.types]
    for heading, lines in (("types", types), ("relations", [_relation(each) for each in sample.relations])):
        if lines:
            parts += [Text(f"\n{heading}", style="dim"), *lines[:_MAX_LINES]]
    return Panel(Group(*parts), title=Text(plain(title)), title_align="left", border_style="dim")


def _marked(parts: Sequence[str | Mark]) -> Text:
    """Each mention as [surface LABEL]; a mention inside another one is not marked again."""
    marked = Text()
    for part in parts:
        if isinstance(part, str):
            marked.append(plain(part, keep=_LINES))
            continue
        style = label_style(part.label)
        label = f" {plain(part.label)}" if part.label else ""
        marked.append("[", style="dim").append(plain(part.text, keep=_LINES), style=style)
        marked.append(label, style=f"dim {style}").append("]", style="dim")
    return marked


def _types(entity: ShownEntity) -> Text:
    types = ", ".join(f"{plain(label)} {score or 0:.2f}" for label, score in entity.types[:3])
    return Text("  ").append(plain(entity.text), style=label_style(entity.label)).append(f" is {types}")


def _relation(relation: ShownRelation) -> Text:
    line = Text("  ").append(plain(relation.head), style=label_style(relation.head_label))
    line.append(f" —{plain(relation.name)}→ ").append(plain(relation.tail), style=label_style(relation.tail_label))
    return line.append(f" {relation.score or 0:.2f}", style="dim")
