"""A readable excerpt of an annotated corpus on a terminal: some documents, nearest neighbours of some mentions, counts.

Everything that comes from a document goes into `rich.text.Text`, which reads no markup, and through `plain`. Neighbours
are found by brute force over all mentions of the table: n mentions of dimension d cost one (queries, n) product, which
suits a demonstration and not a corpus.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from luke_batch.report.wording import plain, relation_name

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


def label_style(label: str | None) -> str:
    """The colour of a label, the same in every run."""
    if label is None:
        return "bold"
    other = _OTHER_COLOURS[crc32(label.encode()) % len(_OTHER_COLOURS)]
    return f"bold {_KNOWN_COLOURS.get(label, other)}"


def annotated_panel(row: Row, text_column: str, title: str) -> Panel:
    """A framed excerpt of one document."""
    end = _excerpt_end(row, len(row[text_column]))
    parts = [_marked(row, row[text_column], end)]
    for heading, lines in (("types", _types(row, end)), ("relations", _relations(row, end))):
        shown = list(lines)[:_MAX_LINES]
        if shown:
            parts.append(Text(f"\n{heading}", style="dim"))
            parts.extend(shown)
    return Panel(Group(*parts), title=Text(plain(title)), title_align="left", border_style="dim")


def _excerpt_end(row: Row, length: int) -> int:
    """The end of the last sentence that fits; a first sentence that is too long is cut."""
    ends = [sentence["end"] for sentence in row["sentences"] or [] if sentence["end"] <= _MAX_CHARACTERS]
    return max(ends, default=min(length, _MAX_CHARACTERS))


def _marked(row: Row, text: str, end: int) -> Text:
    """The text up to `end`, each mention as [surface LABEL]; a mention inside another one is not marked
    again.
    """
    marked = Text()
    position = 0
    for mention in _mentions(row):
        if mention["start"] < position or mention["end"] > end:
            continue
        style = label_style(mention["label"])
        marked.append(_plain(text[position : mention["start"]]))
        label = f" {plain(mention['label'])}" if mention["label"] else ""
        marked.append("[", style="dim").append(_plain(mention["text"]), style=style)
        marked.append(label, style=f"dim {style}").append("]", style="dim")
        position = mention["end"]
    marked.append(_plain(text[position:end]))
    if end < len(text.rstrip()):
        marked.append(" …", style="dim")
    return marked


def _types(row: Row, end: int) -> Iterator[Text]:
    seen: set[str] = set()
    for mention in _mentions(row):
        types = sorted(mention["types"] or [], key=lambda each: -each["score"])
        if not types or mention["end"] > end or mention["text"] in seen:
            continue
        seen.add(mention["text"])
        line = Text("  ").append(plain(mention["text"]), style=label_style(mention["label"]))
        yield line.append(" is ").append(", ".join(f"{plain(each['label'])} {each['score']:.2f}" for each in types[:3]))


def _relations(row: Row, end: int) -> Iterator[Text]:
    mentions = _mentions(row)
    relations: list[dict[str, Any]] = row.get("relations") or []
    for relation in sorted(relations, key=lambda each: -each["score"]):
        head, tail = mentions[relation["head"]], mentions[relation["tail"]]
        if head["end"] > end or tail["end"] > end:
            continue
        line = Text("  ").append(plain(head["text"]), style=label_style(head["label"]))
        line.append(f" —{plain(relation_name(relation['label']))}→ ")
        line.append(plain(tail["text"]), style=label_style(tail["label"]))
        yield line.append(f" {relation['score']:.2f}", style="dim")


def _mentions(row: Row) -> Sequence[dict[str, Any]]:
    return row["mentions"] or []


def _plain(text: str) -> str:
    """A part of the text, whose lines stay."""
    return plain(text, keep="\n\t")
