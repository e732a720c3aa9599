"""Some documents of a run for people to look at: of several files and languages, those that show most.

Only the columns that are shown are read, a few hundred rows of a dozen files. Mentions are marks in the text, and marks
may hold marks. Two that cross cannot both be drawn: of the one that starts later only the part inside of the earlier
one is marked, with `cut`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.corpus.checks import is_text
from luke_batch.corpus.storage import Storage
from luke_batch.document.source import readable, renamed_columns
from luke_batch.report.wording import relation_name

MOST = 8
"""Documents that are shown."""
_ROWS = 128
"""Rows of a file that are looked at."""
_MOST_CHARACTERS = 1500
"""Of a text: to the end of the last sentence that fits."""
_MOST_RELATIONS = 20
_LONGEST_NAME = 200
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
_LISTS = ("sentences", "mentions", "relations")


@dataclass(slots=True)
class Mark:
    """A marked part of the text."""

    label: str | None
    cut: bool = False
    """The mention goes on behind this mark."""
    parts: list["str | Mark"] = field(default_factory=lambda: list["str | Mark"]())

    @property
    def text(self) -> str:
        """All that is marked."""
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)


@dataclass(frozen=True, slots=True)
class ShownEntity:
    """One mention, or several with the same text and label."""

    text: str
    label: str | None
    score: float | None
    types: Sequence[tuple[str, float | None]]
    """Best first."""
    title: str | None
    """What it is linked to."""
    count: int = 1


@dataclass(frozen=True, slots=True)
class ShownRelation:
    """One relation in words."""

    head: str
    head_label: str | None
    name: str
    tail: str
    tail_label: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One document, ready to be shown."""

    id: str
    title: str
    language: str | None
    """A language tag, where the document has a usable one."""
    file: str
    parts: Sequence[str | Mark] = field(repr=False)
    characters: int
    shown: int
    entities: Sequence[ShownEntity]
    relations: Sequence[ShownRelation]
    more_relations: int


def read_samples(output: Storage, paths: Sequence[str], input: Mapping[str, Any]) -> list[Sample]:
    """Documents out of the output files at `paths`; files that are gone are passed over.

    Args:
        output: OUTPUT. paths: relative to it. input: the section `input` of the run's configuration.
    """
    candidates = [
        (path, row) for path in paths for row in _rows(output, path, input) if row["text"] and row["mentions"]
    ]
    candidates.sort(key=lambda each: content(each[1]), reverse=True)
    first: dict[tuple[Any, str], int] = {}
    for number, (path, row) in enumerate(candidates):
        first.setdefault((row["lang"], path if row["lang"] is None else ""), number)
    order = list(dict.fromkeys([*first.values(), *range(len(candidates))]))
    return [sample_of(row, path) for path, row in (candidates[number] for number in order[:MOST])]


def _rows(output: Storage, path: str, input: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The first rows of a file: id, title, lang, text as text or None; and the lists that it has."""
    try:
        source = output.open(path)
    except FileNotFoundError:
        return
    with source:
        file = pq.ParquetFile(source)
        schema = file.schema_arrow
        renamed = renamed_columns(schema)
        names = {"id": input.get("id_column"), "title": "title", "lang": input.get("lang_column")}
        names["text"] = input.get("text_column")
        columns = {key: renamed.get(name, name) for key, name in names.items() if name is not None}
        columns = {key: name for key, name in columns.items() if name in schema.names}
        if "title" in columns and not is_text(schema.field(columns["title"]).type):
            del columns["title"]
        lists = [name for name in _LISTS if name in schema.names]
        wanted = list(dict.fromkeys([*columns.values(), *lists]))
        for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
            for number in range(batch.num_rows):
                row: dict[str, Any] = dict.fromkeys(names)
                row |= {key: readable(_cell(batch, name, number)) for key, name in columns.items()}
                row |= {name: [] for name in _LISTS}
                yield row | {name: _cell(batch, name, number).as_py() or [] for name in lists}
            return


def _cell(batch: pa.RecordBatch, name: str, row: int) -> pa.Scalar:
    return batch.column(batch.schema.get_field_index(name))[row]


def content(row: Mapping[str, Any]) -> tuple[int, int, int]:
    """How much a document has to show: kinds of relations, kinds of mentions, mentions."""
    relations, mentions = row.get("relations") or [], row["mentions"] or []
    return len({each["label"] for each in relations}), len({each["label"] for each in mentions}), min(len(mentions), 12)


def sample_of(row: Mapping[str, Any], path: str, most_characters: int = _MOST_CHARACTERS) -> Sample:
    """A document of the output file at `path`, to the end of the last sentence within `most_characters`.

    Args:
        row: id, title, lang and text, and the lists of annotations, as `to_pylist` gives them.
    """
    text, mentions = cast(str, row["text"]), cast("list[dict[str, Any]]", row["mentions"] or [])
    ends = [sentence["end"] for sentence in row["sentences"] or [] if sentence["end"] <= most_characters]
    end = max(ends, default=min(len(text), most_characters))
    found: list[ShownRelation] = []
    for each in sorted(row.get("relations") or [], key=_score, reverse=True):
        head, tail = mentions[each["head"]], mentions[each["tail"]]
        if head["end"] <= end and tail["end"] <= end:
            name = relation_name(each["label"])
            found.append(ShownRelation(head["text"], head["label"], name, tail["text"], tail["label"], each["score"]))
    language = row["lang"] if row["lang"] and _LANGUAGE.fullmatch(row["lang"]) else None
    identifier = _short(row.get("id") or "(no id)")
    return Sample(
        id=identifier,
        title=_short(row["title"] or identifier),
        language=language,
        file=path,
        parts=highlight(text, [(each["start"], each["end"], each["label"]) for each in mentions], end),
        characters=len(text),
        shown=end,
        entities=_entities([each for each in mentions if each["end"] <= end]),
        relations=found[:_MOST_RELATIONS],
        more_relations=max(len(found) - _MOST_RELATIONS, 0),
    )


def _short(name: str) -> str:
    """Any column may be called `title`."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]} …"


def _score(scored: Mapping[str, Any]) -> float:
    return scored.get("score") or 0


def _entities(mentions: Sequence[Mapping[str, Any]]) -> list[ShownEntity]:
    """Mentions in the order of the text, those of one text and label together as the best scored."""
    groups: dict[tuple[str, str | None], list[Mapping[str, Any]]] = {}
    for mention in mentions:
        groups.setdefault((mention["text"], mention["label"]), []).append(mention)
    found: list[ShownEntity] = []
    for (text, label), group in groups.items():
        best = max(group, key=_score)
        types = [(each["label"], each["score"]) for each in sorted(best.get("types") or [], key=_score, reverse=True)]
        found.append(ShownEntity(text, label, best.get("score"), types, best.get("title"), len(group)))
    return found


def highlight(text: str, mentions: Sequence[tuple[int, int, str | None]], end: int) -> list[str | Mark]:
    """The text up to `end`.

    Args:
        text: the document. mentions: (start, end, label), sorted by (start, -end); those that do not lie
        before `end` are left out. end: code points.
    """
    root = Mark(None)
    open_marks: list[tuple[int, Mark]] = [(end, root)]
    position = 0

    def advance(to: int) -> None:
        """Append the text up to `to`, closing the marks that end before."""
        nonlocal position
        while len(open_marks) > 1 and open_marks[-1][0] <= to:
            stop, mark = open_marks.pop()
            _append(mark, text[position:stop])
            position = stop
        _append(open_marks[-1][1], text[position:to])
        position = to

    for start, stop, label in mentions:
        if not 0 <= start < stop <= end:
            continue
        advance(start)
        limit = open_marks[-1][0]
        mark = Mark(label, cut=stop > limit)
        open_marks[-1][1].parts.append(mark)
        open_marks.append((min(stop, limit), mark))
    advance(end)
    return root.parts


def _append(mark: Mark, text: str) -> None:
    if text:
        mark.parts.append(text)
