"""`head: tokens` against LukeForTokenClassification: labels of words and the spans that they make."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.annotate.annotator import check_models
from luke_batch.base.errors import ConfigError
from luke_batch.heads.head import Labels
from luke_batch.heads.placed_text import PlacedText, best_windows, stride_windows
from luke_batch.heads.tokens import Tags, join
from luke_batch.text.words import words
from tests.checkpoints import LABELS, Recipe, with_head
from tests.text_heads import (
    LONG,
    NOTHING,
    SHORT,
    Reference,
    annotate,
    job,
    most_context,
    softmax,
    starts,
    with_section,
)

Folders = Callable[[Recipe], Path]
TOKENS = with_head("tokens", Recipe())
IOB = Labels(LABELS["tokens"], none=0, multi=False)


def word_labels(reference: Reference, text: str, stride: int) -> list[tuple[int, int, int, float]]:
    """(start, end, label, probability) of each word: of its first token, in the window where that has most
    context.
    """
    placed = PlacedText.of(reference.tokenizer, text)
    ids = placed.ids.tolist()
    begins, best = starts(len(ids), 510, stride), most_context(len(ids), 510, stride)
    logits = [reference(ids[begin : begin + 510]) for begin in begins]
    rows: list[tuple[int, int, int, float]] = []
    found = words(text, None)
    for (start, end), token in zip(found.tolist(), placed.first_tokens(found).tolist(), strict=True):
        own = logits[best[token]][1 + token - begins[best[token]]]
        rows.append((start, end, int(own.argmax()), float(softmax(own).max())))
    return rows


def iob_spans(labelled: list[tuple[int, int, int, float]], text: str) -> list[dict[str, Any]]:
    """Spans by the rules of IOB2, an I- without its B- begins one; written word for word."""
    spans: list[tuple[int, int, str, list[float]]] = []
    before = "O"
    for start, end, number, score in labelled:
        label = LABELS["tokens"][number]
        if label == "O":
            pass
        elif label[0] == "B" or before[2:] != label[2:]:
            spans.append((start, end, label[2:], [score]))
        else:
            first, _, kind, scores = spans[-1]
            spans[-1] = (first, end, kind, [*scores, score])
        before = label
    return [
        {
            "start": start,
            "end": end,
            "text": text[start:end],
            "label": kind,
            "score": pytest.approx(np.mean(scores), abs=1e-4),
        }
        for start, end, kind, scores in spans
    ]


@pytest.mark.parametrize("engine", ["fast", "transformers"])
@pytest.mark.parametrize("kind", ["luke", "mluke"])
def test_spans_equal_those_of_transformers(
    kind: Literal["luke", "mluke"], engine: str, checkpoint_folder: Folders
) -> None:
    """A text that fits, and one of 3,000 tokens: the spans that the labels of its windows make. Every word is
    labelled, and coverage says so.
    """
    folder = checkpoint_folder(replace(TOKENS, kind=kind))
    reference = Reference(folder, "tokens")
    short, long = annotate(folder, {"head": "tokens", "stride": 100}, [SHORT, LONG], engine)
    for row in (short, long):
        text = row["text"]
        labelled = word_labels(reference, text, 100)
        assert row["tokens"] == iob_spans(labelled, text)
        assert row["tokens"]
        count = len(reference.ids(text))
        windows = starts(count, 510, 100)
        coverage = row["coverage"]
        assert coverage["windows"] == len(windows)
        assert coverage["tokens"] == sum(min(510, count - start) + 2 for start in windows)
        assert coverage["spans_proposed"] == coverage["spans_scored"] == len(labelled)
        assert coverage["dropped"] == []
    assert long["coverage"]["tokens"] > 3000


def test_temperature_changes_scores_alone(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """The probability of each word's label is calibrated, its label stays."""
    folder = checkpoint_folder(TOKENS)
    reference = Reference(folder, "tokens")
    warm = with_section(folder, tmp_path / "warm", temperature=4.0)
    ids = reference.ids("Warsaw")
    wanted = softmax(reference(ids)[1], 4.0)
    (plain,) = annotate(folder, {"head": "tokens", "none_label": "I-LOC"}, ["Warsaw"])[0]["tokens"]
    (found,) = annotate(warm, {"head": "tokens", "none_label": "I-LOC"}, ["Warsaw"])[0]["tokens"]
    assert found["label"] == plain["label"]
    assert found["score"] == pytest.approx(float(wanted.max()), abs=1e-4)
    assert found["score"] < plain["score"]


def test_empty_and_odd_texts(checkpoint_folder: Folders) -> None:
    """Nothing to label, nothing written; a word that no token covers is counted."""
    folder = checkpoint_folder(replace(TOKENS, kind="mluke"))
    for row in annotate(folder, {"head": "tokens"}, NOTHING):
        assert row["tokens"] == []
        assert row["coverage"]["windows"] == 0
        assert row["coverage"]["dropped"] == []
    (row,) = annotate(folder, {"head": "tokens"}, ["a b \ufffd"])  # its normaliser removes U+FFFD
    assert (row["coverage"]["spans_proposed"], row["coverage"]["spans_scored"]) == (3, 2)
    assert row["coverage"]["dropped"] == [{"reason": "no_token", "count": 1}]


def spans_of(tags: list[str], labels: Labels, scheme: Literal["iob", "plain", "words"]) -> list[str]:
    """`0-1 PER` for a span of the first two words."""
    pairs = np.array([(3 * n, 3 * n + 2) for n in range(len(tags))], np.int32).reshape(-1, 2)
    numbers = np.array([labels.names.index(tag) for tag in tags], np.intp)
    rows = join("xx " * len(tags), pairs, numbers, np.ones(len(tags), np.float32), Tags.of(labels, scheme))
    return [f"{row['start'] // 3}-{row['end'] // 3} {row['label']}" for row in rows]  # type: ignore[operator]


def test_schemes() -> None:
    """IOB2, IOB1, BIOES and BILOU tags, plain labels, and labels of single words."""
    assert spans_of(["B-PER", "I-PER", "B-PER", "O", "I-LOC", "I-PER"], IOB, "iob") == [
        *("0-1 PER", "2-2 PER", "4-4 LOC", "5-5 PER")
    ]
    bioes = Labels(("O", "B-X", "I-X", "E-X", "S-X", "L-X", "U-X"), none=0, multi=False)
    assert spans_of(["B-X", "I-X", "E-X", "S-X", "S-X", "I-X"], bioes, "iob") == [*("0-2 X", "3-3 X", "4-4 X", "5-5 X")]
    assert spans_of(["B-X", "L-X", "U-X", "B-X"], bioes, "iob") == ["0-1 X", "2-2 X", "3-3 X"]
    plain = Labels(("O", "PER", "LOC"), none=0, multi=False)
    assert spans_of(["PER", "PER", "LOC", "O", "LOC"], plain, "plain") == ["0-1 PER", "2-2 LOC", "4-4 LOC"]
    speech = Labels(("NOUN", "VERB"), none=-1, multi=False)
    assert spans_of(["NOUN", "NOUN", "VERB"], speech, "words") == ["0-0 NOUN", "1-1 NOUN", "2-2 VERB"]


@given(st.lists(st.sampled_from(LABELS["tokens"]), max_size=12))
def test_joining_equals_iob_word_for_word(tags: list[str]) -> None:
    """The vectorised rule is the one that reads one word after another."""
    labelled = [(3 * n, 3 * n + 2, LABELS["tokens"].index(tag), 1.0) for n, tag in enumerate(tags)]
    wanted = iob_spans(labelled, "xx " * len(tags))
    assert spans_of(tags, IOB, "iob") == [f"{row['start'] // 3}-{row['end'] // 3} {row['label']}" for row in wanted]


@given(st.integers(0, 400), st.integers(2, 60), st.integers(0, 40))
def test_windows_hold_every_token_where_it_has_most_context(count: int, room: int, stride: int) -> None:
    """Windows fit, overlap as asked (at most by half), and no token is lost; the best one is that of the
    SQuAD script.
    """
    windows = stride_windows(count, room, stride)
    overlap = min(stride, room // 2)
    best = best_windows(windows)
    assert len(best) == count
    if not count:
        assert windows == []
        return
    assert [window.start for window in windows] == starts(count, room, overlap)
    assert windows[-1].stop == count
    assert all(window.stop - window.start == room for window in windows[:-1])
    assert best.tolist() == most_context(count, room, overlap)


def test_labels_decide_the_scheme(checkpoint_folder: Folders) -> None:
    """Without O every label is written; a scheme or a none label that the labels do not have is refused."""
    folder = checkpoint_folder(replace(TOKENS, labels=("NOUN", "VERB", "ADJ")))
    for scheme, joins in (("auto", True), ("words", False)):
        rows = annotate(folder, {"head": "tokens", "scheme": scheme}, [LONG[:300]])[0]["tokens"]
        count = len(words(LONG[:300], None))
        assert (len(rows) < count) == joins
        assert not joins or all(a["label"] != b["label"] for a, b in pairwise(rows))
    with pytest.raises(ConfigError, match=r"has the label 'NOUN', which is no tag .* `scheme: plain`"):
        check_models(job(folder, {"head": "tokens", "scheme": "iob"}))
    with pytest.raises(ConfigError, match=r"no label 'O' for `none_label`; it has NOUN, VERB, ADJ"):
        check_models(job(folder, {"head": "tokens", "none_label": "O"}))
