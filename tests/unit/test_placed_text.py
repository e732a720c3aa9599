"""Tokens of plain text and pairs: the ids of transformers 4.57.6, and where each token stands."""

import json
import shutil
import sys
import unicodedata
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from luke_batch.document.state import no_spans
from luke_batch.heads.placed_text import PlacedText, stride_windows
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.text.words import words
from tests.golden.check import read_cases
from tests.raw_texts import any_text
from tests.unit.test_golden import write_fast_mluke

GOLDEN = Path(__file__).parents[1] / "golden"
KINDS = ("luke", "mluke", "luke with a prefix", "mluke as tokenizer.json")


@cache
def tokenizer(kind: str) -> Tokenizer:
    """A golden tokenizer in one of its layouts."""
    if kind == "mluke as tokenizer.json":
        with TemporaryDirectory() as folder:
            write_fast_mluke(Path(folder))
            made = Tokenizer.load(Path(folder))
            _ = made.entity_vocab  # read the vocabulary while it is there
            return made
    return Tokenizer.load(
        GOLDEN / f"{kind.split(maxsplit=1)[0]}-v4-layout", add_prefix_space=True if "prefix" in kind else None
    )


def shown(kind: str, text: str) -> list[str]:
    """What each token shows."""
    placed = PlacedText.of(tokenizer(kind), text)
    return [text[start:end] for start, end in placed.characters.tolist()]


@pytest.mark.parametrize("kind", ["luke", "mluke"])
def test_pairs_and_windows_equal_those_of_transformers_4(kind: str) -> None:
    """`<s> first </s></s> second </s>` and what return_overflowing_tokens makes of a long text."""
    cases: list[dict[str, Any]] = pq.read_table(GOLDEN / "pairs.parquet").to_pylist()
    builder = InputBuilder(tokenizer(kind), max_tokens=sys.maxsize)
    several = 0
    for case in cases:
        texts = [text for text in (case["first"], case["second"]) if text is not None]
        ids = [tokens.ids for tokens in builder.tokenize_many([(text, no_spans()) for text in texts])]
        if len(ids) == 1:
            parts = stride_windows(len(ids[0]), case["max_length"] - 2, case["stride"])
            made = [builder.text_window(ids[0][part]) for part in parts]
        else:
            long, short = (0, 1) if case["windowed"] == "only_first" else (1, 0)
            room = case["max_length"] - 4 - len(ids[short])
            made = []
            for part in stride_windows(len(ids[long]), room, case["stride"]):
                pair = [ids[0], ids[1]]
                pair[long] = ids[long][part]
                made.append(builder.pair_of_texts(pair[0], pair[1]))
        assert [window.token_ids.tolist() for window in made] == case[kind]
        assert all(len(window.entity_ids) == 0 for window in made)
        several += len(made) > 1
    assert several >= 20
    assert {case["windowed"] for case in cases} == {"only_first", "only_second", None}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_golden_texts_are_those_of_input_building(kind: str) -> None:
    """A text that is placed has the ids that a window of it has."""
    builder = InputBuilder(tokenizer(kind))
    texts = [case["text"] for case in read_cases(GOLDEN)]
    for text, tokens in zip(texts, builder.tokenize_many([(text, no_spans()) for text in texts]), strict=True):
        assert PlacedText.of(builder.tokenizer, text).ids.tolist() == tokens.ids.tolist()


@pytest.mark.parametrize("kind", KINDS)
@given(text=any_text)
@settings(max_examples=150)
def test_tokens_are_placed_inside_the_text_in_order(kind: str, text: str) -> None:
    """Ids are those of `encode`; starts and ends ascend inside the text, and no token begins or ends with
    white space.
    """
    made = tokenizer(kind)
    placed = PlacedText.of(made, text)
    starts, ends = placed.characters.T
    assert placed.ids.tolist() == made.encode([text])[0].tolist()
    assert placed.characters.shape == (len(placed.ids), 2)
    assert (np.diff(starts) >= 0).all()
    assert (np.diff(ends) >= 0).all()
    assert (starts >= 0).all()
    assert (starts <= ends).all()
    assert (ends <= len(text)).all()
    assert all(token == token.strip() for token in shown(kind, text))


@pytest.mark.parametrize("kind", KINDS[:3])
@given(text=any_text)
@settings(max_examples=150)
def test_every_word_that_the_tokenizer_keeps_begins_with_its_first_token(kind: str, text: str) -> None:
    """No token before the first one shows a character of the word, and the first one, or the one after its
    space, does. Byte-level, no character goes lost.
    """
    made = tokenizer(kind)
    placed = PlacedText.of(made, text)
    found = words(text, None)
    first = placed.first_tokens(found)
    assert (np.diff(first[first >= 0]) >= 0).all()
    for (start, end), token in zip(found.tolist(), first.tolist(), strict=True):
        touching = [
            number
            for number, (left, right) in enumerate(placed.characters.tolist())
            if left < end and right > start and left < right
        ]
        assert (token >= 0) == bool(touching)
        if touching:
            assert token in (touching[0], touching[0] - 1)
            if token < touching[0]:
                assert placed.spaces[token]
                assert placed.characters[token].tolist() == [start, start]
        if made.kind == "luke":
            assert touching
            assert placed.characters[touching[0], 0] <= start
            assert placed.characters[touching[-1], 1] >= end


def test_offsets_survive_normalisation() -> None:
    """Code points of the text itself: full-width letters, a ligature, decomposed accents, squared letters."""
    assert shown("mluke", "Ｔｏｋｙｏ") == ["Ｔ", "ｏ", "ｋ", "ｙｏ"]
    text = unicodedata.normalize("NFD", "Beyoncé") + " ﬁne ㎏ 東京 end"
    for kind in ("luke", "mluke"):
        placed = PlacedText.of(tokenizer(kind), text)
        for word in ("ﬁne", "㎏", "東京", "end"):
            start = text.index(word)
            inside = [
                (left, right)
                for left, right in placed.characters.tolist()
                if left < right and left < start + len(word) and right > start
            ]
            assert (inside[0][0], inside[-1][1]) == (start, start + len(word)), (kind, word)
    # All pieces of one character share it, whichever of them the alignment gives it to.
    assert shown("mluke", "ﬁne") == ["ﬁ", "ﬁn", "e"]
    assert shown("luke", "👩") == ["👩", "👩", "👩"]


def test_a_prefix_space_is_no_part_of_the_text(tmp_path: Path) -> None:
    """`prefix_space: first`, as our own checkpoints may have it: the same ids as in input building, and
    offsets into the text without that space.
    """
    folder = shutil.copytree(GOLDEN / "luke-v4-layout", tmp_path / "first")
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"prefix_space": "first"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    made = Tokenizer.load(folder)
    text = "Los Angeles"
    placed = PlacedText.of(made, text)
    assert placed.ids.tolist() == InputBuilder(made).tokenize(text, no_spans()).ids.tolist()
    assert placed.ids.tolist() != PlacedText.of(tokenizer("luke"), text).ids.tolist()
    assert "".join(text[start:end] for start, end in placed.characters.tolist()) == "LosAngeles"


def test_a_space_before_a_word_is_its_first_token() -> None:
    """Where the vocabulary has no piece of space and letter, the word begins with the space: as where the
    words were tokenised one by one, which is how labels of words are learned.
    """
    text = "flew 東京"
    for kind in ("luke", "mluke"):
        placed = PlacedText.of(tokenizer(kind), text)
        first = placed.first_tokens(np.array([[0, 4], [5, 7]], np.int32))
        alone = tokenizer(kind).encode([" 東京"])[0]
        assert placed.ids[first[1]] == alone[0]
        assert placed.spaces[first[1]]
        assert placed.characters[first[1]].tolist() == [5, 5]
