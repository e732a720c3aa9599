"""Words: the boundaries that names have, in every script."""

import time

import numpy as np
import pytest
from hypothesis import example, given

from luke_batch.text.words import between_graphemes, boundaries, code_points, words
from tests.raw_texts import any_text, languages


def listed(text: str, language: str | None = None) -> list[str]:
    """The words as text."""
    return [text[start:end] for start, end in words(text, language)]


@given(any_text, languages)
@example("", None)
@example(" \u3000\n", "ja")
@example("a\x00b", None)
def test_words_are_in_order_and_cover_what_is_visible(text: str, language: str | None) -> None:
    """Words are ascending, apart, not empty and trimmed; between them is only what nobody sees."""
    found = words(text, language)
    assert found.dtype == np.int32
    assert found.shape == (len(found), 2)
    edges = found.ravel().tolist()
    assert edges == sorted(edges)
    assert (found[:, 0] < found[:, 1]).all()
    pieces = [text[start:end] for start, end in found]
    assert all(piece == piece.strip() for piece in pieces)
    covered = {place for start, end in found.tolist() for place in range(start, end)}
    left = "".join(character for place, character in enumerate(text) if place not in covered)
    assert not any(character.isalnum() or character in ".,!?。-'\"" for character in left)


@given(any_text, languages)
def test_no_grapheme_is_cut(text: str, language: str | None) -> None:
    """No word begins or ends inside a letter with its marks, a flag, a syllable block or a joined emoji."""
    graphemes = set(boundaries(text, "grapheme").tolist())
    for cut in words(text, language).ravel().tolist():
        assert cut in graphemes or text[cut - 1].isspace() or text[cut : cut + 1].isspace()


@given(any_text, languages)
def test_words_depend_on_the_text_alone(text: str, language: str | None) -> None:
    """The same call gives the same words."""
    assert np.array_equal(words(text, language), words(text, language))


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Obama's dog, Bo.", "en", ["Obama", "'s", "dog", ",", "Bo", "."]),
        ("Beyoncé’s", None, ["Beyoncé", "’s"]),
        ("I don't, they're", "en", ["I", "don't", ",", "they're"]),
        ("O'Neill", "en", ["O'", "Neill"]),
        ("à l'Aquila", "fr", ["à", "l'", "Aquila"]),
        ("Ankara'da", "tr", ["Ankara", "'da"]),
        ("EU:n", "fi", ["EU", ":n"]),
        ("Yahoo! Inc.", "en", ["Yahoo", "!", "Inc", "."]),
        ("U.S. Army", "en", ["U.S", ".", "Army"]),
        ("@anna #tag a_b", "en", ["@", "anna", "#", "tag", "a_b"]),
        ("Jean-Luc", "fr", ["Jean", "-", "Luc"]),
        ("東京都に。", "ja", ["東京", "都", "に", "。"]),
        ("สวัสดีชาวโลก", "th", ["สวัสดี", "ชาว", "โลก"]),
        ("😀a 👨\u200d👩\u200d👧b", None, ["😀", "a", "👨\u200d👩\u200d👧", "b"]),
        ("e\u0301te\u0301", None, ["e\u0301te\u0301"]),
        ("שלום\u200f עולם", "he", ["שלום", "עולם"]),
        ("\ufeffAnna\x00", None, ["Anna"]),
    ],
)
def test_stated_words(text: str, language: str | None, expected: list[str]) -> None:
    """Names are cut free of what is written onto them, and invisible signs are no part of a word."""
    assert listed(text, language) == expected


def test_offsets_are_code_points() -> None:
    """Characters beyond the first plane count once, though ICU counts them twice."""
    text = "😀 Anna 𝔘 Bo"
    assert words(text, "en").tolist() == [[0, 1], [2, 6], [7, 8], [9, 11]]
    assert len(code_points(text)) == len(text)


def test_lone_surrogates_are_taken() -> None:
    """A string that no file can hold does not raise either."""
    assert listed("a \ud800 b") == ["a", "\ud800", "b"]


@pytest.mark.parametrize("text", ["a" * 100_000, "漢字" * 50_000, "a'b " * 50_000, "e\u0301" * 50_000])
def test_time_is_linear(text: str) -> None:
    """Very long words and very many words are done in seconds."""
    started = time.monotonic()
    assert len(words(text, None))
    assert time.monotonic() - started < 30


@given(any_text)
def test_the_short_cut_for_graphemes_agrees_with_icu(text: str) -> None:
    """White space apart, both say the same everywhere."""
    graphemes = set(boundaries(text, "grapheme").tolist())
    for cut in range(1, len(text)):
        if not (text[cut - 1].isspace() or text[cut].isspace()):
            assert between_graphemes(text, cut) == (cut in graphemes)
