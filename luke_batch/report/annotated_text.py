"""One annotated document on a terminal: its text with the mentions marked, then types and relations in words.

Everything that comes from a document goes into `rich.text.Text`, which reads no markup, and through `plain`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from luke_batch.report.plain import plain
from luke_batch.report.relation_names import relation_name

Row = Mapping[str, Any]
"""One document as `Table.to_pylist` gives it."""

_KNOWN_COLOURS = {"PER": "magenta", "ORG": "cyan", "LOC": "green", "MISC": "yellow"}
_OTHER_COLOURS = ("blue", "red", "bright_magenta", "bright_cyan", "bright_green", "bright_yellow")
_MAX_CHARACTERS = 420
_MAX_LINES = 4


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
