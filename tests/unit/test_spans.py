"""Candidate spans: every run of words, or every run that can be a name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.base.arrays import IntArray
from luke_batch.text.segmenter import sentences
from luke_batch.text.words import all_spans, auto_spans, words
from tests.raw_texts import any_text

pairs = st.lists(st.integers(0, 40), max_size=24, unique=True).map(
    lambda cuts: np.array(sorted(cuts)[: len(cuts) // 2 * 2], np.int32).reshape(-1, 2)
)
"""Ascending intervals that do not overlap, some of them touching words of others."""


def naive(words: IntArray, sentences: IntArray, max_words: int) -> list[list[int]]:
    """What `all_spans` must give, by loops."""
    spans: list[list[int]] = []
    for first, last in sentences.tolist():
        inside = [[max(start, first), min(end, last)] for start, end in words.tolist() if start < last and end > first]
        for at in range(len(inside)):
            spans += [[inside[at][0], inside[to][1]] for to in range(at, min(at + max_words, len(inside)))]
    return sorted(spans)


def auto(text: str, max_words: int = 4) -> list[str]:
    """The filtered candidates of a text of one sentence, as text."""
    sentence = np.array([[0, len(text)]], np.int32)
    return [text[start:end] for start, end in auto_spans(text, words(text, "en"), sentence, max_words)]


@given(pairs, pairs, st.integers(1, 5))
def test_all_spans_equal_the_naive_loop(words: IntArray, sentences: IntArray, max_words: int) -> None:
    """Every run of up to `max_words` words of a sentence, once, in order; words are cut at borders."""
    spans = all_spans(words, sentences, max_words)
    assert spans.dtype == np.int32
    assert spans.tolist() == naive(words, sentences, max_words)


@given(any_text, st.integers(1, 6))
def test_auto_spans_are_some_of_all_spans(text: str, max_words: int) -> None:
    """Filtering keeps order and offsets, and every single word that holds letters alone."""
    borders, found = sentences(text, "en"), words(text, "en")
    everything = all_spans(found, borders, max_words).tolist()
    kept = auto_spans(text, found, borders, max_words).tolist()
    assert kept == [span for span in everything if span in kept]
    assert all([start, end] in kept for start, end in everything if text[start:end].isalpha())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(
            (name, name)
            for name in (
                "Yahoo!",
                "U.S.",
                "Acme Inc.",
                "St. Paul",
                "Disney+",
                "C#",
                "AT&T",
                "@anna",
                "7-Eleven",
            )
        ),
        *(
            (name, name)
            for name in (
                ".NET",
                "'s Hertogenbosch",
                '"Weird Al" Yankovic',
                "Men's",
                "Who?",
                "Washington, D.C.",
            )
        ),
        *((name, name) for name in ("(G)I-dle", "ACM (New York)", "「はい」町", "नमस्ते", "東京", "42")),
        ('say "Anna" now', '"Anna"'),
    ],
)
def test_names_are_kept(text: str, name: str) -> None:
    """Marks that names do have at their edges or inside leave them among the candidates."""
    assert name in auto(text, 12)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        *(("Anna, Bo", "Anna,"), ("Anna, Bo", ", Bo"), ("Anna - Bo", "Anna -"), ("Anna ... Bo", "...")),
        *(
            ("a (Anna) b", "(Anna"),
            ("a (Anna) b", "Anna)"),
            ('a "Anna b', '"Anna'),
            ("「東京」", "「東京"),
            ("! ?", "!"),
        ),
    ],
)
def test_what_no_name_is_is_left_out(text: str, span: str) -> None:
    """Runs without a letter, with a separator at an edge or with half a pair are no candidates."""
    assert span not in auto(text)


def test_nothing_gives_nothing() -> None:
    """No words, no sentences or no room for a word: no spans, of the right shape."""
    none, one = np.zeros((0, 2), np.int32), np.array([[0, 3]], np.int32)
    for found in (
        all_spans(none, one, 3),
        all_spans(one, none, 3),
        all_spans(none, none, 3),
        auto_spans("", none, none, 3),
    ):
        assert found.shape == (0, 2)


def test_many_words_take_little_time_and_memory() -> None:
    """A million spans come from array operations."""
    starts = np.arange(0, 400_000, 2, dtype=np.int32)
    found = np.stack([starts, starts + 1], axis=1)
    sentences = np.array([[0, 400_000]], np.int32)
    assert len(all_spans(found, sentences, 8)) == 8 * 200_000 - 28
