"""Spans to token ranges, windows, context and chunks."""

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import CheckpointError
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder, Tokens, chunks, context_sizes, padded_positions

GOLDEN = Path(__file__).parents[1] / "golden"
KINDS = ("luke", "mluke")
NONE = np.zeros(0, np.int32)


@cache
def builder(kind: str) -> InputBuilder:
    """Builds windows with the golden tokenizer of one kind."""
    return InputBuilder(Tokenizer.load(GOLDEN / f"{kind}-v4-layout"))


def array(values: object) -> IntArray:
    """An int32 array."""
    return np.array(values, np.int32)


@st.composite
def texts_with_spans(draw: st.DrawFn) -> tuple[str, IntArray]:
    """A text rich in spaces, and up to six character ranges in it, empty ones included."""
    letters = st.sampled_from("  \n\u3000\u00adaбт京ﬁé e\u0301😀<s>") | st.characters(exclude_categories=["Cs"])
    text = draw(st.text(letters, max_size=30))
    bound = st.integers(0, len(text))
    pairs = draw(st.lists(st.tuples(bound, bound).map(sorted), max_size=6))
    return text, array(pairs).reshape(-1, 2)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(case=texts_with_spans())
def test_spans_are_inside_and_pieces_are_tokenised_alone(kind: str, case: tuple[str, IntArray]) -> None:
    """The ids before a span's start, inside it and after its end are those of the text cut by the rule."""
    text, spans = case
    made = builder(kind).tokenize(text, spans)
    assert made.ids.dtype == made.spans.dtype == np.int32
    assert made.spans.shape == spans.shape

    moved = {cut: cut - (cut > 0 and text[cut - 1] == " ") for cut in {0, len(text), *spans.ravel().tolist()}}
    moved[len(text)] = len(text) if len(text) not in spans else moved[len(text)]
    edges = sorted({0, len(text), *moved.values()})
    position = {0: 0}
    ids: list[int] = []
    for start, end in pairwise(edges):
        ids += builder(kind).tokenizer.encode([text[start:end]])[0].tolist()
        position[end] = len(ids)
    assert made.ids.tolist() == ids
    expected = [[position[moved[start]], position[moved[end]]] for start, end in spans.tolist()]
    assert made.spans.tolist() == expected
    assert all(0 <= start <= end <= len(ids) for start, end in made.spans.tolist())


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(cases=st.lists(texts_with_spans(), max_size=4))
def test_many_texts_are_tokenised_as_one_by_one(kind: str, cases: list[tuple[str, IntArray]]) -> None:
    """A text's tokens and spans do not depend on the texts beside it."""
    together = builder(kind).tokenize_many(cases)
    for made, (text, spans) in zip(together, cases, strict=True):
        alone = builder(kind).tokenize(text, spans)
        assert made.ids.tolist() == alone.ids.tolist()
        assert made.spans.tolist() == alone.spans.tolist()


@pytest.mark.parametrize("spans", [[[0, 5]], [[-1, 2]], [[3, 1]]])
def test_spans_outside_the_text_are_refused(spans: list[list[int]]) -> None:
    """A range beyond the text, before it or reversed is an error and not an empty mention."""
    with pytest.raises(ValueError, match="not inside a text of 4 characters"):
        builder("luke").tokenize("text", array(spans))


def test_windows_without_entities_and_with_context() -> None:
    """Context shifts the spans; `which` picks them in its own order; without any, shapes are (0,), (0, 2)."""
    made = builder("luke")
    tokens = Tokens(array([10, 11, 12]), array([[0, 1], [1, 3], [2, 2]]))
    plain = made.text_window(tokens.ids)
    assert plain.token_ids.tolist() == [0, 10, 11, 12, 2]
    assert plain.entity_ids.shape == (0,)
    assert plain.entity_spans.shape == (0, 2)

    window = made.mention_window(tokens, array([7, 8]), array([9]), array([2, 0]))
    assert window.token_ids.tolist() == [0, 7, 8, 10, 11, 12, 9, 2]
    assert window.entity_spans.tolist() == [[5, 5], [3, 4]]
    assert window.entity_ids.tolist() == [made.tokenizer.entity_mask_id] * 2
    assert len(made.mention_window(tokens, NONE, NONE).entity_ids) == 3
    arrays = (window.token_ids, window.entity_ids, window.entity_spans)
    assert {values.dtype for values in arrays} == {np.dtype(np.int32)}


def test_typing_window_marks_the_mention() -> None:
    """Both markers belong to the entity's range, in context and for a span without a token."""
    made = builder("luke")
    ent = made.tokenizer.entity_marker_id
    window = made.typing_window(Tokens(array([10, 11, 12]), array([[1, 3]])), array([7]), array([9]))
    assert window.token_ids.tolist() == [0, 7, 10, ent, 11, 12, ent, 9, 2]
    assert window.entity_spans.tolist() == [[3, 7]]
    assert window.entity_ids.tolist() == [made.tokenizer.entity_mask_id]
    empty = made.typing_window(Tokens(array([10]), array([[1, 1]])), NONE, NONE)
    assert empty.token_ids.tolist() == [0, 10, ent, ent, 2]
    with pytest.raises(ValueError, match="one span"):
        made.typing_window(Tokens(array([10]), array([[0, 1], [0, 1]])), NONE, NONE)


@pytest.mark.parametrize("head_first", [True, False])
def test_pair_window_marks_head_and_tail(head_first: bool) -> None:
    """The head has <ent> and [MASK], the tail <ent2> and [MASK2], whichever comes first in the text."""
    made = builder("mluke")
    ent, ent2 = made.tokenizer.entity_marker_id, made.tokenizer.entity_marker2_id
    spans = [[1, 2], [2, 4]] if head_first else [[2, 4], [1, 2]]
    window = made.pair_window(Tokens(array([10, 11, 12, 13]), array(spans)), array([7]), array([9]))
    one, two = (ent, ent2) if head_first else (ent2, ent)
    assert window.token_ids.tolist() == [0, 7, 10, one, 11, one, two, 12, 13, two, 9, 2]
    assert window.entity_spans.tolist() == ([[3, 6], [6, 10]] if head_first else [[6, 10], [3, 6]])
    assert window.entity_ids.tolist() == [made.tokenizer.entity_mask_id, made.tokenizer.entity_mask2_id]


@pytest.mark.parametrize("spans", [[[0, 2], [1, 3]], [[0, 3], [1, 1]], [[0, 2], [0, 2]], [[0, 1]]])
def test_pair_window_refuses_other_pairs(spans: list[list[int]]) -> None:
    """Overlapping or nested mentions would corrupt the markers; one span is no pair."""
    with pytest.raises(ValueError, match=r"overlap|two spans"):
        builder("luke").pair_window(Tokens(array([10, 11, 12]), array(spans)), NONE, NONE)


def test_pair_window_needs_mask2(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint without [MASK2] is named by its kind."""
    made = InputBuilder(Tokenizer.load(GOLDEN / "luke-v4-layout"))
    monkeypatch.setattr(made.tokenizer, "entity_mask2_id", None)
    with pytest.raises(CheckpointError, match=r"luke checkpoint has no \[MASK2\]"):
        made.pair_window(Tokens(array([10, 11]), array([[0, 1], [1, 2]])), NONE, NONE)


def test_windows_over_the_limit_are_refused() -> None:
    """max_tokens counts <s> and </s>."""
    made = InputBuilder(builder("luke").tokenizer, max_tokens=8)
    assert len(made.text_window(np.zeros(6, np.int32)).token_ids) == 8
    with pytest.raises(ValueError, match="9 tokens is over the limit of 8"):
        made.text_window(np.zeros(7, np.int32))


def test_padded_positions_are_clipped() -> None:
    """Rows hold the positions of a range, the first max_mention_length of them, and -1 behind."""
    made = padded_positions(array([[4, 6], [2, 9], [3, 3]]), 3)
    assert made.tolist() == [[4, 5, -1], [2, 3, 4], [-1, -1, -1]]
    assert made.dtype == np.int32
    assert padded_positions(np.zeros((0, 2), np.int32), 3).shape == (0, 3)


@settings(deadline=None)
@given(before=st.integers(0, 40), inner=st.integers(0, 20), after=st.integers(0, 40), free=st.integers(0, 60))
def test_context_fills_the_room_around_the_middle(before: int, inner: int, after: int, free: int) -> None:
    """Context fits, leaves no room that a side could fill, and gives the
    shorter side at most half of what is free.
    """
    one, two = context_sizes(before, inner, after, inner + free)
    assert one + inner + two == min(inner + free, before + inner + after)
    shorter, longer = (one, two) if before < after else (two, one)
    assert shorter == min(before, after, free // 2)
    assert longer == min(max(before, after), free - shorter)
    if before != after:
        assert context_sizes(after, inner, before, inner + free) == (two, one)


def test_context_refuses_too_small_a_room() -> None:
    """A sentence over the room is the caller's to cut."""
    with pytest.raises(ValueError, match="11 tokens do not fit into 10"):
        context_sizes(0, 11, 0, 10)


@settings(deadline=None)
@given(n=st.integers(0, 2000), limit=st.integers(1, 200))
def test_chunks_cover_all_spans_once(n: int, limit: int) -> None:
    """Chunks follow one another, are as few as the limit allows, and none but the last is shorter."""
    made = chunks(n, limit)
    assert [index for chunk in made for index in range(chunk.start, chunk.stop)] == list(range(n))
    lengths = [chunk.stop - chunk.start for chunk in made]
    assert len(made) == -(-n // limit)
    assert all(length == lengths[0] <= limit for length in lengths[:-1])
    assert not lengths or 0 < lengths[-1] <= lengths[0]
