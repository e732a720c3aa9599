"""Rows in other letters, and lines that are no sentences: what people's corpora hold and annotated ones hardly do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from numpy.random import Generator

from luke_batch.training.corpus import GoldEntity, Row

SHARES = {"lower": 0.14, "upper": 0.10, "title": 0.05}
"""Of the rows that are shown: all lower case, all capitals, each word with a capital. The rest stays as it is."""
_JOINTS = (", ", " - ", " | ", " · ", " / ", "; ")
_AROUND = (("", ""), ("", ""), ("- ", ""), ("• ", ""), ("1. ", ""), ("(", ")"), ("", ":"), ("* ", ""))
_BESIDE = ("Tel. 555 0134", "p. 12", "12345", "No. 7", "2019", "3:2", "€ 40")
_MOST = 5


def in_other_letters(row: Row, rng: Generator) -> Row:
    """The row, now and then in other letters; offsets stay, since a letter that would become two stays."""
    drawn = float(rng.random())
    for name, share in SHARES.items():
        if drawn < share:
            return replace(row, text=FORMS[name](row.text))
        drawn -= share
    return row


def _each(text: str, change: Callable[[str], str]) -> str:
    return "".join(other if len(other := change(letter)) == 1 else letter for letter in text)


def _title(text: str) -> str:
    letters = _each(text, str.upper)
    before = " " + text
    return "".join(up if not (last.isalnum() or last in "'’") else own for up, own, last in zip(letters, text, before))  # noqa: B905 - `before` has one letter more


FORMS: dict[str, Callable[[str], str]] = {
    "lower": lambda text: _each(text, str.lower),
    "upper": lambda text: _each(text, str.upper),
    "title": _title,
}


def lines(rows: Sequence[Row], count: int, rng: Generator) -> Iterator[Row]:
    """`count` lists, signatures and captions of the rows' own mentions, those of one language together."""
    named: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        named[row.lang] += [(row.text[item.start : item.end], item.label) for item in row.entities if item.label]
    languages = sorted(language for language, names in named.items() if len(names) >= _MOST)
    for number in range(count):
        language = languages[int(rng.integers(len(languages)))]
        chosen = rng.choice(len(named[language]), int(rng.integers(1, _MOST + 1)), replace=False)
        yield _line(f"line-{number}", language, [named[language][place] for place in chosen.tolist()], rng)


def _line(name: str, language: str, names: Sequence[tuple[str, str]], rng: Generator) -> Row:
    joint = _JOINTS[int(rng.integers(len(_JOINTS)))]
    text, end = _AROUND[int(rng.integers(len(_AROUND)))]
    entities: list[GoldEntity] = []
    for place, (surface, label) in enumerate(names):
        text += joint if place else ""
        entities.append(GoldEntity(len(text), len(text) + len(surface), label))
        text += surface
        if rng.random() < 1 / 8:
            text += joint + _BESIDE[int(rng.integers(len(_BESIDE)))]
    return Row(name, language, "lines", text + end, tuple(entities), ())
