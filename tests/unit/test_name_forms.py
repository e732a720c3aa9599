"""The form of names: NFKC and single spaces, with the way back to the text's code points."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.text.names import name_forms
from luke_batch.text.names.name_forms import NormalisedText, fold, normalise
from tests.raw_texts import any_text

unruly = st.text(
    alphabet="aeK ½ﬁ´㎏①ｶﾞ가각\u3099\u0301\u0327\u0323\u1100\u1161\u11a8\u09c7\u09be\ufdfa\u2126\u0344\u00a0\u3000\t\n",
    max_size=12,
)
"""Characters that change, join, reorder or become several."""


@given(unruly | any_text)
def test_a_text_is_normalised_as_a_whole_would_be(text: str) -> None:
    """Normalising segments alone gives NFKC of the text, save for white space at its ends."""
    expected = unicodedata.normalize("NFKC", text.replace("\0", "\ufffd")).split()
    assert NormalisedText.of(text).text.split(" ") in (
        [*blank, *expected, *trailing] for blank in ([], [""]) for trailing in ([], [""])
    )
    assert normalise(text) == " ".join(expected)


@given(unruly | any_text)
def test_every_character_knows_where_it_comes_from(text: str) -> None:
    """Segments lie in the text in ascending order, and each gives the characters that it stands for."""
    normal = NormalisedText.of(text)
    segments = list(zip(normal.starts.tolist(), normal.ends.tolist(), strict=True))
    assert len(segments) == len(normal.text)
    assert all(0 <= start < end <= len(text) for start, end in segments)
    assert all(one == other or one[1] <= other[0] for one, other in pairwise(segments))
    for start, end in set(segments):
        piece = "".join(c for c, place in zip(normal.text, segments, strict=True) if place == (start, end))
        assert normalise(piece) == normalise(text[start:end])


@given(unruly | any_text)
def test_forms_are_final(text: str) -> None:
    """A normalised name is its own form, and a folded one its own folded form."""
    assert normalise(normalise(text)) == normalise(text)
    assert fold(fold(text)) == fold(text)
    assert fold(text) == fold(text.replace(" ", "\t\n"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Beyoncé", "Beyonce\u0301"),
        ("New York", "  New\u00a0\n\tYork "),
        ("ガンダム", "ｶﾞﾝﾀﾞﾑ"),
        ("IBM", "ＩＢＭ"),
        ("fi", "ﬁ"),
    ],
)
def test_what_looks_alike_is_one_name(one: str, other: str) -> None:
    """Composed and decomposed, wide and narrow letters, any white space."""
    assert normalise(one) == normalise(other) == one


def test_case_counts_until_it_is_folded() -> None:
    """Folding is Unicode's, over the normalised name."""
    assert normalise("US") != normalise("us")
    assert fold("STRASSE") == fold("straße")
    assert fold("ＵＳ") == fold("us")


def test_lone_surrogates_and_nul_are_replaced() -> None:
    """No library takes them; the text keeps its length."""
    assert NormalisedText.of("a\ud800\0b").text == "a\ufffd\ufffdb"
    assert normalise("a\udfff\0") == "a\ufffd\ufffd"


def test_no_character_beyond_those_looked_at_has_another_form() -> None:
    """The pattern of segments is made from the first planes alone."""
    beyond = [chr(point) for point in range(name_forms._NO_FORMS, 0x110000)]
    assert unicodedata.normalize("NFKD", "".join(beyond)) == "".join(beyond)
    assert not any(unicodedata.combining(character) or character.isspace() for character in beyond)
