"""A readable excerpt of an annotated corpus: some documents, nearest neighbours of some mentions, and
counts.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from luke_batch.report.annotated_text import Row, annotated_panel, label_style
from luke_batch.report.neighbours import MentionVectors
from luke_batch.report.plain import plain

_DOCUMENTS = 6
_QUERIES = 5
_NEIGHBOURS = 3
_LABEL_COLUMNS = 6


def print_excerpt(table: pa.Table, console: Console, *, text: str, lang: str, title: str) -> None:
    """Show `table`, one row a document; `text`, `lang` and `title` name its columns."""
    rows = cast("list[dict[str, Any]]", table.drop_columns(_vector_columns(table)).to_pylist())
    shown = _worth_showing(rows, lang)
    for index in shown:
        row = rows[index]
        console.print(annotated_panel(row, text, f"{row[title]} ({row[lang]})"))
    if "mention_embeddings" in table.column_names:
        _print_neighbours(MentionVectors.of(table), rows, shown, console, title)
    _print_counts(rows, console, lang)


def _vector_columns(table: pa.Table) -> list[str]:
    """Vectors as Python lists are slow and of no use here."""
    return [name for name in ("mention_embeddings", "text_embedding") if name in table.column_names]


def _worth_showing(rows: Sequence[Row], lang: str) -> list[int]:
    """One document a language, those with the most kinds of relations and of mentions first."""

    def content(index: int) -> tuple[int, int]:
        kinds = [{each["label"] for each in rows[index].get(name) or []} for name in ("relations", "mentions")]
        return len(kinds[0]), len(kinds[1])

    best: dict[str, int] = {}
    for index in sorted(range(len(rows)), key=content, reverse=True):
        best.setdefault(rows[index][lang], index)
    return list(best.values())[:_DOCUMENTS]


def _print_neighbours(
    vectors: MentionVectors, rows: Sequence[Row], shown: Sequence[int], console: Console, title: str
) -> None:
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
            found.add_row(name, near, f"{cosine:.2f}", Text(plain(str(rows[vectors.rows[index]][title])), style="dim"))
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


def _print_counts(rows: Sequence[Row], console: Console, lang: str) -> None:
    labels: Counter[str] = Counter()
    by_language: dict[str, Counter[str]] = {}
    for row in rows:
        mentions: list[dict[str, Any]] = row["mentions"] or []
        here = Counter(str(mention["label"]) for mention in mentions if mention["label"])
        labels.update(here)
        counts = by_language.setdefault(str(row[lang]), Counter())
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
