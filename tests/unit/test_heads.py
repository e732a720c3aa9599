"""The decisions of heads that need no model: decoding, pairing, framing, packing."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luke_batch.document.state import Document
from luke_batch.heads.frames import Frames, group_by_sentence
from luke_batch.heads.head import Labels
from luke_batch.heads.ner import choose
from luke_batch.heads.relations import nearest_pairs
from luke_batch.heads.sentence_windows import SentenceWindow, pack
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder, Tokens

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The small byte-level BPE of the golden files."""
    return Tokenizer.load(GOLDEN / "luke-v4-layout")


@st.composite
def scored_spans(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unique sorted spans, their logits over three labels (0 is none), and which of them are kept."""
    pairs = draw(st.sets(st.tuples(st.integers(0, 12), st.integers(1, 5)), max_size=14))
    spans = np.array(sorted((s, s + n) for s, n in pairs), np.int32).reshape(-1, 2)
    values = st.lists(st.integers(-3, 3), min_size=3, max_size=3)
    logits = np.array(draw(st.lists(values, min_size=len(spans), max_size=len(spans))), np.float32)
    kept = np.array(draw(st.lists(st.booleans(), min_size=len(spans), max_size=len(spans))), bool)
    return spans, logits.reshape(-1, 3), kept


@given(scored_spans())
def test_flat_decoding_equals_the_greedy_rule_word_for_word(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Kept spans stay; the others enter by descending best logit (stable) while their characters are
    free; a kept span without a label takes none.
    """
    spans, logits, kept = case
    free = set(range(20))
    expected = [i for i in range(len(spans)) if kept[i]]
    for i in expected:
        if logits[i].argmax() != 0:
            free -= set(range(*spans[i].tolist()))
    for i in sorted(range(len(spans)), key=lambda i: -logits[i].max()):
        characters = set(range(*spans[i].tolist()))
        if not kept[i] and logits[i].argmax() != 0 and characters <= free:
            free -= characters
            expected.append(i)
    assert choose(spans, logits, 0, kept, nested=False).tolist() == sorted(expected)


@given(scored_spans())
def test_nested_decoding_keeps_every_span_that_is_something(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """nested: exactly the spans whose argmax is a label, and the kept ones."""
    spans, logits, kept = case
    expected = [i for i in range(len(spans)) if kept[i] or logits[i].argmax() != 0]
    assert choose(spans, logits, 0, kept, nested=True).tolist() == expected


def test_single_label_decoding_is_the_argmax_with_its_calibrated_probability() -> None:
    """The temperature changes the score, never the label; the none label is no output."""
    logits = np.array([1.0, 3.0, 2.0], np.float32)
    labels = Labels(("none", "a", "b"), none=0, multi=False, temperature=2.0)
    weights = np.exp(logits / 2)
    assert labels.decode(logits) == [("a", pytest.approx(weights[1] / weights.sum(), abs=1e-6))]
    assert Labels(("none", "a", "b"), none=1, multi=False).decode(logits) == []


def test_multi_label_decoding_takes_every_label_over_the_threshold_best_first() -> None:
    """At the usual threshold of 0.5 that is logit > 0, and the empty set is allowed."""
    labels = Labels(("a", "b", "c"), none=-1, multi=True)
    assert [name for name, _ in labels.decode(np.array([0.1, -0.1, 2.0], np.float32))] == ["c", "a"]
    assert labels.decode(np.array([-1.0, -2.0, -3.0], np.float32)) == []
    strict = Labels(("a", "b", "c"), none=-1, multi=True, threshold=0.8)
    assert [name for name, _ in strict.decode(np.array([0.1, -0.1, 2.0], np.float32))] == ["c"]


@given(st.sets(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=14), st.integers(1, 9))
def test_nearest_pairs_are_the_smallest_gaps_of_a_sentence(lengths: set[tuple[int, int]], limit: int) -> None:
    """Of all ordered pairs that do not overlap the `limit` smallest gaps remain, of equals the earlier."""
    ordered = sorted(((start, start + length) for start, length in lengths), key=lambda span: (span[0], -span[1]))
    spans = np.array(ordered, np.int32).reshape(-1, 2)
    gaps = {
        (a, b): max(spans[a, 0], spans[b, 0]) - min(spans[a, 1], spans[b, 1])
        for a in range(len(spans))
        for b in range(len(spans))
        if a != b
    }
    apart = [pair for pair in gaps if gaps[pair] >= 0]
    pairs, overlapping, over = nearest_pairs(spans, limit)
    assert [tuple(pair) for pair in pairs.tolist()] == sorted(apart, key=lambda pair: (gaps[pair], pair))[:limit]
    assert (overlapping, over) == (len(gaps) - len(apart), max(0, len(apart) - limit))


def test_a_list_of_thousands_of_names_has_no_more_pairs_built_than_it_has_names_times_the_limit() -> None:
    """8,000 names in one sentence: 64 million pairs took half a gigabyte before they were pruned."""
    starts = np.arange(0, 80_000, 10, dtype=np.int32)
    tracemalloc.start()
    pairs, overlapping, over = nearest_pairs(np.stack([starts, starts + 5], axis=1), 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pairs) == 64
    assert (overlapping, over) == (0, 8000 * 7999 - 64)
    assert peak < 100e6


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 16), st.data())
def test_packing_keeps_every_token_once_in_order_and_fits(lengths: list[int], room: int, data: st.DataObject) -> None:
    """Runs concatenate to the input, none is longer than the room or empty, and an entity covers the tokens
    that it covered before, unless it was cut.
    """
    parts: list[SentenceWindow] = []
    covered: list[list[int]] = []
    first = 0
    for length in lengths:
        ids = np.arange(first, first + length, dtype=np.int32)
        bounds = st.tuples(st.integers(0, length), st.integers(0, length)).map(sorted)
        spans = np.array(data.draw(st.lists(bounds, max_size=3)), np.int32).reshape(-1, 2)
        which = len(covered) + np.arange(len(spans))
        covered += [ids[start:end].tolist() for start, end in spans.tolist()]
        parts.append(SentenceWindow(Tokens(ids, spans), which))
        first += length
    runs = pack(parts, room)
    found = [run.tokens.ids for run in runs]
    assert np.concatenate([np.empty(0, np.int32), *found]).tolist() == list(range(first))
    assert all(0 < len(ids) <= room for ids in found)
    kept = [
        (int(place), run.tokens.ids[start:end].tolist())
        for run in runs
        for place, (start, end) in zip(run.entities, run.tokens.spans.tolist(), strict=True)
    ]
    assert all(covered[place] == tokens and tokens for place, tokens in kept)
    assert len({place for place, _ in kept}) == len(kept)
    if all(length <= room for length in lengths):
        assert len(kept) == sum(bool(tokens) for tokens in covered)


def _document(sentences: int, words: int) -> Document:
    sentence = " ".join(f"Word{i}" for i in range(words)) + "."
    text = " ".join([sentence] * sentences)
    starts = np.arange(sentences) * (len(sentence) + 1)
    return Document(text=text, sentences=np.stack([starts, starts + len(sentence)], 1).astype(np.int32))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 60), st.integers(16, 64), st.booleans(), st.data())
def test_frames_hold_every_span_that_fits_once(
    tokenizer: Tokenizer, sentences: int, words: int, room: int, whole: bool, data: st.DataObject
) -> None:
    """However a region is cut, each span that fits is in exactly one frame, and inside it."""
    document = _document(sentences, words)
    length = len(document.text)
    pairs = data.draw(st.sets(st.tuples(st.integers(0, length - 1), st.integers(1, 12)), max_size=8))
    spans = np.array(sorted((s, min(s + n, length)) for s, n in pairs), np.int32).reshape(-1, 2)
    spans = np.unique(spans, axis=0)
    builder = InputBuilder(tokenizer, max_tokens=room + 2)
    regions = group_by_sentence(document, spans)
    frames = Frames(document, builder, whole).split(regions)
    seen = np.concatenate([np.empty(0, np.intp), *(frame.which for frame in frames)])
    assert len(set(seen.tolist())) == len(seen)
    widths = {}
    for region in regions:
        tokens = builder.tokenize(document.text[region.start : region.end], region.spans - region.start)
        widths |= dict(zip(region.which.tolist(), (tokens.spans[:, 1] - tokens.spans[:, 0]).tolist(), strict=True))
    for frame in frames:
        assert len(frame.left) + len(frame.tokens.ids) + len(frame.right) <= room
        assert (frame.tokens.spans >= 0).all()
        assert (frame.tokens.spans <= len(frame.tokens.ids)).all()
    # With the document around it a sentence begins with a space, which may merge into its first token.
    missing = set(range(len(spans))) - set(seen.tolist())
    assert all(widths[index] + whole > room for index in missing)


def test_context_fills_the_window_from_both_sides(tokenizer: Tokenizer) -> None:
    """With `context: document` a sentence in the middle of a long document gets exactly a full window."""
    document = _document(9, 12)
    spans = document.sentences[4:5]
    builder = InputBuilder(tokenizer, max_tokens=128)
    frame = Frames(document, builder, True).split(group_by_sentence(document, spans))[0]
    assert len(frame.left) + len(frame.tokens.ids) + len(frame.right) == 126
    assert abs(len(frame.left) - len(frame.right)) <= 1
    whole = builder.tokenize(document.text, spans)
    start = int(whole.spans[0, 0]) - len(frame.left)
    window = np.concatenate([frame.left, frame.tokens.ids, frame.right])
    assert window.tolist() == whole.ids[start : start + 126].tolist()
