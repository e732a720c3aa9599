"""What a person sees of an annotated corpus."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from luke_batch.base.contracts import load_contract
from luke_batch.report.excerpt import MentionVectors, annotated_panel, print_excerpt
from luke_batch.report.wording import relation_name

_VECTOR = pa.list_(pa.float32(), 2)


def _mention(text: str, surface: str, label: str | None = "PER", **more: Any) -> dict[str, Any]:
    start = text.index(surface)
    place = {"start": start, "end": start + len(surface), "text": surface, "sentence": 0}
    return {**place, "label": label, "types": None, **more}


def _row(text: str, mentions: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A document of one sentence."""
    sentences = [{"start": 0, "end": len(text)}]
    document = {"id": text[:5], "lang": "en", "title": text[:5], "text": text}
    return {**document, "sentences": sentences, "mentions": mentions, "relations": [], **more}


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    source = [pa.field(name, pa.string()) for name in ("id", "lang", "title", "text")]
    annotations = load_contract("annotations").schema(vector=_VECTOR)
    wanted = [field for field in annotations if field.name in rows[0]]
    return pa.Table.from_pylist(rows, schema=pa.schema([*source, *wanted]))


def _shown(renderable: Any) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _excerpt(rows: list[dict[str, Any]]) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_excerpt(_table(rows), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


_TEXT = "Marie Curie was born in Warsaw."
_CURIE = _mention(_TEXT, "Marie Curie", types=[{"label": "person", "score": 0.7}, {"label": "scientist", "score": 0.9}])
_WARSAW = _mention(_TEXT, "Warsaw", "LOC")
_BORN = {"head": 0, "tail": 1, "label": "place of birth", "score": 0.934}


def test_mentions_types_and_relations_are_shown_in_words() -> None:
    """Every mention bears its label, types come best first, and a relation reads as a sentence."""
    shown = _shown(annotated_panel(_row(_TEXT, [_CURIE, _WARSAW], relations=[_BORN]), "Curie"))
    assert "[Marie Curie PER] was born in [Warsaw LOC]." in shown
    assert "Marie Curie is scientist 0.90, person 0.70" in shown
    assert "Marie Curie —place of birth→ Warsaw 0.93" in shown


def test_a_mention_inside_another_is_not_marked_twice() -> None:
    """The text stays readable and whole where mentions overlap."""
    text = "University of Warsaw"
    whole, part = _mention(text, text, "ORG"), _mention(text, "Warsaw", "LOC")
    assert "[University of Warsaw ORG]" in _shown(annotated_panel(_row(text, [whole, part]), "x"))


def test_a_mention_without_label_is_marked_by_its_brackets() -> None:
    """Given mentions need not have a label."""
    assert "[Warsaw]" in _shown(annotated_panel(_row("Warsaw", [_mention("Warsaw", "Warsaw", None)]), "x"))


@pytest.mark.parametrize("hostile", ["[red]Bob[/red]", "[/]", "[link=file:///x]Bob[/link]", "\\[bold]"])
def test_markup_in_a_document_is_text(hostile: str) -> None:
    """Texts, labels and titles cannot colour, link or break the excerpt."""
    row = _row(hostile, [_mention(hostile, hostile, hostile)], title=hostile, lang=hostile)
    shown = _excerpt([row])
    assert shown.count(hostile) >= 4


def test_a_document_does_not_steer_the_terminal() -> None:
    """Escape sequences in texts, labels and titles are shown as codes; lines of a text stay."""
    hostile = "\x1b[2J\x07Bob"
    text = f"One.\n{hostile} came."
    row = _row(text, [_mention(text, hostile, hostile)], title=hostile, lang=hostile)
    shown = _excerpt([row])
    assert "\x1b" not in shown
    assert shown.count("\\x1b[2J\\x07Bob") >= 4


def test_a_long_text_ends_with_a_sentence() -> None:
    """An excerpt stops at the last sentence that fits, and mentions behind it are left out."""
    text = "One. " * 60 + "Zwei. " + "Rest of it " * 60 + "Marie."
    row = _row(
        text,
        [_mention(text, "Marie")],
        sentences=[{"start": 0, "end": 305}, {"start": 306, "end": len(text)}],
    )
    shown = _shown(annotated_panel(row, "x"))
    assert "Zwei. …" in shown
    assert "Rest" not in shown
    assert "Marie" not in shown


def test_a_document_without_annotations_is_shown_plain() -> None:
    """Null and empty annotations are no error."""
    row = {**_row("Nothing here.", []), "sentences": None, "mentions": None, "relations": None}
    assert "Nothing here." in _shown(annotated_panel(row, "x"))
    assert "Nothing here." in _excerpt([row])


def test_dates_in_wikidata_are_named() -> None:
    """A property number means nothing to a reader; other labels stay."""
    assert relation_name("P569") == "date of birth"
    assert relation_name("spouse") == "spouse"


def test_counts_are_given_for_each_language_and_all() -> None:
    """Documents, mentions, each label and relations add up."""
    rows = [
        _row(_TEXT, [_CURIE, _WARSAW], relations=[_BORN]),
        _row("Warschau", [_mention("Warschau", "Warschau", "LOC")], lang="de"),
    ]
    lines = [line.split() for line in _excerpt(rows).splitlines()]
    heading = next(line for line in lines if line[:1] == ["language"])
    assert heading == ["language", "documents", "mentions", "LOC", "PER", "relations"]
    assert ["de", "1", "1", "1", "0", "0"] in lines
    assert ["all", "2", "3", "2", "1", "1"] in lines


def _with_vectors(vectors: list[list[float] | None]) -> dict[str, Any]:
    surfaces = ["alpha", "beta", "gamma", "Alpha"][: len(vectors)]
    text = " ".join(surfaces)
    return _row(text, [_mention(text, surface) for surface in surfaces], mention_embeddings=vectors)


def test_nearest_neighbours_are_those_of_the_largest_cosine() -> None:
    """Neighbours equal a search by hand; the query's own surface is no neighbour, whatever its case."""
    table = _table([_with_vectors([[1, 0], [0, 2], [3, 3], [1, 0]])])
    vectors = MentionVectors.of(table)
    found = vectors.nearest(0, 5)
    assert [vectors.surfaces[index] for index, _ in found] == ["gamma", "beta"]
    assert np.allclose([cosine for _, cosine in found], [0.5**0.5, 0], atol=1e-6)


def test_a_mention_without_vector_is_no_neighbour() -> None:
    """Null vectors are left out, and the others keep their mentions."""
    table = _table([_with_vectors([None, [0, 2]]), _with_vectors([[1, 0], None, [3, 3]])])
    vectors = MentionVectors.of(table)
    assert vectors.surfaces == ["beta", "alpha", "gamma"]
    assert vectors.rows.tolist() == [0, 1, 1]


def test_half_precision_vectors_are_read() -> None:
    """The embeddings head may write float16."""
    table = _table([_with_vectors([[1, 0], [0, 2]])])
    half = table["mention_embeddings"].cast(pa.list_(pa.list_(pa.float16(), 2)))
    table = table.set_column(table.column_names.index("mention_embeddings"), "mention_embeddings", half)
    assert MentionVectors.of(table).vectors.tolist() == [[1, 0], [0, 1]]


def test_neighbours_appear_in_the_excerpt() -> None:
    """Mentions of the shown documents are listed with their nearest."""
    shown = _excerpt([_with_vectors([[1, 0], [0, 2], [3, 3]])])
    assert "Nearest mentions by embedding" in shown
    assert "0.71" in shown
