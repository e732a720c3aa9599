"""Sentences: exact offsets, nothing lost, in every script and at every size."""

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from luke_batch.base.errors import ConfigError
from luke_batch.config.loading import load_config
from luke_batch.text import segmenter as module
from luke_batch.text.languages import language_code
from luke_batch.text.segmenter import sentences as cut
from luke_batch.text.words import between_graphemes
from tests.raw_texts import any_text, languages


def sentences(text: str, language: str | None, max_characters: int = 1_000) -> list[str]:
    """The sentences as text."""
    return [text[start:end] for start, end in cut(text, language, max_characters)]


@given(any_text, languages, st.sampled_from([1, 5, 40, 1_000]))
@example("A\u3000.", "en", 1_000)
@example("", None, 1_000)
@example(" \n\t\u3000", None, 1_000)
@example("a\x00b. \x00", "en", 5)
def test_sentences_cover_the_text(text: str, language: str | None, max_characters: int) -> None:
    """Sentences are sorted, apart, trimmed, not over long, and hold all that is not white space."""
    found = cut(text, language, max_characters)
    assert found.dtype == np.int32
    assert found.shape == (len(found), 2)
    edges = found.ravel().tolist()
    assert edges == sorted(edges)
    pieces = [text[start:end] for start, end in found]
    assert all(piece and piece == piece.strip() and len(piece) <= max_characters for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@given(any_text, languages)
def test_no_grapheme_is_cut(text: str, language: str | None) -> None:
    """A sentence neither begins nor ends inside a letter with its marks, a flag or a joined emoji."""
    found = cut(text, language)
    assert all(between_graphemes(text, int(edge)) for edge in found.ravel() if 0 < edge < len(text))


@given(any_text, languages)
def test_the_same_text_gives_the_same_sentences(text: str, language: str | None) -> None:
    """Segmentation depends on its arguments alone."""
    found = cut(text, language)
    cut("Something else. Entirely.", "fr")
    assert np.array_equal(found, cut(text, language))


@given(any_text.filter(lambda text: not text.isspace()), languages)
@example("𝔘. 東京都", "xx-nonsense")
def test_paragraphs_do_not_influence_one_another(text: str, language: str | None) -> None:
    """A paragraph has the same sentences whatever stands before it, once the language is known: where a code
    is none, the script of the whole text decides.
    """
    prefix = "First one. Second one.\n\n"
    known = language_code(language) or "en"
    alone = sentences(text, known)
    assert sentences(prefix + text, known) == ["First one.", "Second one.", *alone]


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Am 3. Mai kam er. Dann ging er.", "de", ["Am 3. Mai kam er.", "Dann ging er."]),
        ("Am 3. Mai kam er. Dann ging er.", "deu", ["Am 3. Mai kam er.", "Dann ging er."]),
        ("Dr. Who met Ms. Lau. He left.", "en", ["Dr. Who met Ms. Lau.", "He left."]),
        ("Mme Curie et Mlle. Duval. Elles rient.", "fr", ["Mme Curie et Mlle. Duval.", "Elles rient."]),
        ("They use .NET and F. Lund wrote it. Fine.", "da", ["They use .NET and F. Lund wrote it.", "Fine."]),
        ("他来了。她走了！", "zh", ["他来了。", "她走了！"]),
        ("他来了。她走了！", None, ["他来了。", "她走了！"]),
        ("वह आया। वह गई।", None, ["वह आया।", "वह गई।"]),
        ("هل جاء؟ نعم جاء.", None, ["هل جاء؟", "نعم جاء."]),
        ("ሰላም ነው፡፡ እሺ።", None, ["ሰላም ነው፡፡", "እሺ።"]),
        ("Title\n\nBody text", "en", ["Title", "Body text"]),
        ("Title\r\n \r\nBody text", "en", ["Title", "Body text"]),
        ("one line\nof the same", "en", ["one line\nof the same"]),
        ("😀 A. Smith came. 😀 He left.", "en", ["😀 A. Smith came.", "😀 He left."]),
        ("A\u3000. B", "en", ["A\u3000. B"]),
        ("สวัสดีชาวโลก ยินดีที่ได้รู้จัก", "th", ["สวัสดีชาวโลก ยินดีที่ได้รู้จัก"]),
    ],
)
def test_stated_sentences(text: str, language: str | None, expected: list[str]) -> None:
    """Abbreviations, days, initials, other scripts and blank lines are cut as a reader would."""
    assert sentences(text, language) == expected


def test_one_quotation_mark_too_many_does_not_join_a_paragraph() -> None:
    """Long quotations are cut inside, and an opening mark stays with what it opens."""
    quoted = "The first of them had a great deal to say about the weather in the north. " * 4
    found = sentences(f'He said: "{quoted}" Then "nobody" came.', "en")
    assert len(found) == 5
    assert found[-1] == 'Then "nobody" came.'


def test_a_panic_falls_back_to_icu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the Rust library throws is no Exception: ICU takes over, and an interrupt still interrupts."""

    class Panic(BaseException):
        pass

    def failing(error: BaseException) -> object:
        def boundaries(_language: str, _text: str) -> list[dict[str, int]]:
            raise error

        return boundaries

    monkeypatch.setattr(module.sentencex, "get_sentence_boundaries", failing(Panic()))
    assert sentences("He came. She left.", "en") == ["He came.", "She left."]
    monkeypatch.setattr(module.sentencex, "get_sentence_boundaries", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        sentences("He came. She left.", "en")


@pytest.mark.parametrize("space", ["\u3000", "\xa0", "\u2009", "\x85"])
def test_wide_white_space_does_not_panic(space: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The inputs that make sentencex panic never reach it: nothing is written to standard error."""
    sentences(f"A{space}. b", "en")
    assert capfd.readouterr().err == ""


def test_over_long_sentences_are_cut_at_the_best_place() -> None:
    """Lines come first, then clauses, then white space, then words, and only then graphemes."""
    assert sentences("eins zwei\ndrei vier", "de", 12) == ["eins zwei", "drei vier"]
    assert sentences("one two, three four", "en", 12) == ["one two,", "three four"]
    assert sentences("onetwo threefour", "en", 12) == ["onetwo", "threefour"]
    assert sentences("สวัสดีชาวโลก", "th", 8) == ["สวัสดี", "ชาวโลก"]
    assert sentences("e\u0301" * 6, "en", 5) == ["e\u0301" * 2] * 3


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        "漢" * 100_000,
        "「あ。」" * 50_000,
        "He said so. " * 40_000,
        '"a. ' * 50_000,
        "\n" * 100_000,
        "།" * 100_000,
    ],
    ids=["word", "han", "dialogue", "prose", "quotes", "lines", "shad"],
)
def test_time_is_linear(text: str) -> None:
    """Texts that take a quadratic segmenter minutes are done in seconds."""
    started = time.monotonic()
    found = cut(text, None)
    assert time.monotonic() - started < 30
    assert all(first <= second for first, second in pairwise(found.ravel().tolist()))


def test_names_and_limits() -> None:
    """An unknown name and an impossible limit are configuration errors."""
    assert load_config(None, ["segmenter.name=sentencex", "segmenter.max_characters=80"]).segmenter.max_characters == 80
    with pytest.raises(ConfigError, match=r"segmenter\.name"):
        load_config(None, ["segmenter.name=nltk"])
    with pytest.raises(ConfigError, match=r"segmenter\.max_characters"):
        load_config(None, ["segmenter.max_characters=0"])
