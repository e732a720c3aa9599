"""`head: qa` against LukeForQuestionAnswering, decoded here once more by the rules of the SQuAD script."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.heads.placed_text import PlacedText
from luke_batch.heads.qa import Found, best_answers, rank, window_answers
from tests.checkpoints import Recipe, with_head
from tests.text_heads import (
    LONG,
    NOTHING,
    SHORT,
    Reference,
    annotate,
    most_context,
    softmax,
    starts,
    with_section,
)

Folders = Callable[[Recipe], Path]
QA = with_head("qa", Recipe())
WHERE, WHO = "Where was Marie Curie born?", "Who moved to Paris"


def candidates(
    reference: Reference, text: str, question: str, stride: int = 128, longest: int = 30
) -> tuple[list[tuple[float, int, int]], float, list[int]]:
    """(logit, start, end) of the 20 best answers, the logit of "no answer", and the tokens of each window."""
    placed = PlacedText.of(reference.tokenizer, text)
    ids, characters = placed.ids.tolist(), placed.characters.tolist()
    asked = reference.ids(question)[:64]
    room = 512 - 4 - len(asked)
    begins, best = starts(len(ids), room, stride), most_context(len(ids), room, stride)
    found: dict[tuple[int, int], float] = {}
    nothing: list[float] = []
    for number, begin in enumerate(begins):
        logits = reference(asked, ids[begin : begin + room])
        nothing.append(float(logits[0, 0] + logits[0, 1]))
        inner = logits[len(asked) + 3 : -1]
        places = range(begin, begin + len(inner))
        firsts = [n for n in places if best[n] == number]
        lasts = [n for n in places if characters[n][0] < characters[n][1]]
        firsts = sorted(firsts, key=lambda n: -inner[n - begin, 0])[:20]
        lasts = sorted(lasts, key=lambda n: -inner[n - begin, 1])[:20]
        for first in firsts:
            for last in lasts:
                if first <= last < first + longest and characters[first][0] < characters[last][1]:
                    span = (characters[first][0], characters[last][1])
                    logit = float(inner[first - begin, 0] + inner[last - begin, 1])
                    found[span] = max(found.get(span, -np.inf), logit)
    ranked = sorted(((logit, *span) for span, logit in found.items()), reverse=True)[:20]
    sizes = [len(asked) + 4 + min(room, len(ids) - begin) for begin in begins]
    return ranked, min(nothing), sizes


@pytest.mark.parametrize(("kind", "engine"), [("luke", "fast"), ("luke", "transformers"), ("mluke", "fast")])
def test_answers_equal_those_of_transformers(
    kind: Literal["luke", "mluke"], engine: str, checkpoint_folder: Folders
) -> None:
    """Two questions to a text that fits and to one of 3,000 tokens: spans and probabilities of the merged
    n-best list of all windows.
    """
    folder = checkpoint_folder(replace(QA, kind=kind))
    reference = Reference(folder, "qa")
    head = {"head": "qa", "questions": [WHERE, WHO], "n_best": 5, "stride": 60}
    short, long = annotate(folder, head, [SHORT, LONG], engine)
    for row in (short, long):
        text: str = row["text"]
        wanted: list[dict[str, Any]] = []
        sizes: list[int] = []
        for question in (WHERE, WHO):
            ranked, _, read = candidates(reference, text, question, stride=60)
            sizes += read
            scores = softmax(np.array([logit for logit, _, _ in ranked]))
            wanted += [
                {"question": question, "start": start, "end": end, "text": text[start:end]}
                for _, start, end in ranked[:5]
            ]
            found = [answer["score"] for answer in row["answers"] if answer["question"] == question]
            assert found == pytest.approx(scores[:5].tolist(), abs=1e-4)
        assert [{**answer, "score": None} for answer in row["answers"]] == [
            {**answer, "score": None} for answer in wanted
        ]
        assert row["coverage"]["windows"] == len(sizes)
        assert row["coverage"]["tokens"] == sum(sizes)
        assert row["coverage"]["dropped"] == []
    assert long["coverage"]["windows"] > 12


def test_no_answer_is_a_candidate_of_checkpoints_that_know_it(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """Its logit is the least of all windows, it shares the probability, and the margin decides whether it is
    first.
    """
    folder = with_section(checkpoint_folder(QA), tmp_path / "warm", temperature=2.0)
    reference = Reference(folder, "qa")
    ranked, nothing, _ = candidates(reference, LONG, WHERE)
    scores = softmax(np.array([nothing, *(logit for logit, _, _ in ranked)]), 2.0)
    best = nothing - ranked[0][0]
    assert best < 0
    head = {"head": "qa", "questions": WHERE, "no_answer": True}
    (found,) = annotate(folder, head, [LONG])[0]["answers"]
    assert (found["start"], found["end"]) == ranked[0][1:]
    assert found["score"] == pytest.approx(float(scores[1]), abs=1e-4)
    for margin, first in ((best - 0.01, True), (best + 0.01, False)):
        rows = annotate(folder, {**head, "no_answer_margin": margin, "n_best": 20}, [LONG])[0]["answers"]
        places = [n for n, row in enumerate(rows) if row["start"] is None]
        assert (places == [0]) == first
        if first:
            assert rows[0]["score"] == pytest.approx(float(scores[0]), abs=1e-4)
            assert [rows[0][name] for name in ("end", "text")] == [None, None]


def test_questions_come_from_the_job_and_from_a_column(checkpoint_folder: Folders) -> None:
    """Fixed questions first, then the row's own: one, a list, none. Blank ones are counted."""
    head = {"head": "qa", "questions": [WHERE], "question_column": "asked"}
    texts = pa.array([WHO, None, " "])
    rows = annotate(checkpoint_folder(QA), head, [SHORT] * 3, asked=texts)
    assert [[answer["question"] for answer in row["answers"]] for row in rows] == [
        [WHERE, WHO],
        [WHERE],
        [WHERE],
    ]
    lists = pa.array([[WHO, None, "", WHERE], [], None])
    head = {"head": "qa", "question_column": "asked"}
    rows = annotate(checkpoint_folder(QA), head, [SHORT] * 3, asked=lists)
    assert [[answer["question"] for answer in row["answers"]] for row in rows] == [[WHO, WHERE], [], []]
    assert rows[0]["coverage"]["dropped"] == [{"reason": "blank_question", "count": 2}]
    assert rows[1]["coverage"]["windows"] == 0


def test_a_long_question_is_cut_and_counted(checkpoint_folder: Folders) -> None:
    """At 64 tokens, as the SQuAD script does."""
    question = "Where was Marie Curie born? " * 20
    folder = checkpoint_folder(QA)
    row = annotate(folder, {"head": "qa", "questions": [question]}, [SHORT])[0]
    ranked, _, sizes = candidates(Reference(folder, "qa"), SHORT, question)
    assert row["coverage"]["dropped"] == [{"reason": "clipped_question", "count": 1}]
    assert row["coverage"]["tokens"] == sum(sizes) == 64 + 4 + len(Reference(folder, "qa").ids(SHORT))
    assert (row["answers"][0]["start"], row["answers"][0]["end"]) == ranked[0][1:]


@pytest.mark.parametrize("no_answer", [False, True])
def test_texts_without_words_have_no_answer(no_answer: bool, checkpoint_folder: Folders) -> None:
    """Null, empty, white space: one row for the question, with nulls."""
    head = {"head": "qa", "questions": [WHERE], "no_answer": no_answer}
    for row in annotate(checkpoint_folder(replace(QA, kind="mluke")), head, NOTHING):
        nulls = dict.fromkeys(("start", "end", "text", "score"))
        assert row["answers"] == [{"question": WHERE, **nulls}]
        assert row["coverage"]["windows"] == 0


def test_answers_are_at_most_as_long_as_asked(checkpoint_folder: Folders) -> None:
    """In tokens: one token gives no answer of two words."""
    head = {"head": "qa", "questions": [WHERE], "max_answer_tokens": 1, "n_best": 20}
    folder = checkpoint_folder(QA)
    found = annotate(folder, head, [SHORT])[0]["answers"]
    ranked, _, _ = candidates(Reference(folder, "qa"), SHORT, WHERE, longest=1)
    assert [(answer["start"], answer["end"]) for answer in found] == [(a, b) for _, a, b in ranked]
    assert all(" " not in answer["text"] for answer in found)


@given(st.data())
def test_pairs_are_those_of_two_loops(data: st.DataObject) -> None:
    """Best starts among the window's own tokens, best ends among visible ones, in order, not too long."""
    count = data.draw(st.integers(0, 30))
    integers = st.lists(st.integers(-50, 50), min_size=2 * count, max_size=2 * count, unique=count < 25)
    logits = np.array(data.draw(integers), np.float32).reshape(-1, 2)
    widths = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    ends = np.cumsum(widths, dtype=np.int32)
    characters = np.stack([ends - np.array(widths, np.int32), ends], axis=1).astype(np.int32)
    own = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    longest = data.draw(st.integers(1, 8))
    firsts = sorted(np.flatnonzero(own).tolist(), key=lambda n: -logits[n, 0])[:20]
    lasts = sorted([n for n in range(count) if widths[n]], key=lambda n: -logits[n, 1])[:20]
    wanted = [
        (float(logits[a, 0] + logits[b, 1]), int(characters[a, 0]), int(characters[b, 1]))
        for a in firsts
        for b in lasts
        if a <= b < a + longest and characters[a, 0] < characters[b, 1]
    ]
    found = window_answers(logits, characters, own, longest)
    assert sorted(found) == sorted(wanted)
    best = best_answers(found)
    assert [answer.logit for answer in best] == sorted((answer.logit for answer in best), reverse=True)
    spans = {(start, end) for _, start, end in wanted}
    assert len(best) == min(20, len(spans))
    for answer in best:
        same = [logit for logit, *span in wanted if tuple(span) == (answer.start, answer.end)]
        assert answer.logit == max(same)


def test_ranking() -> None:
    """Answers by logit; no answer among them by its own, first only beyond the margin."""
    best = [Found(3.0, 0, 1), Found(1.0, 5, 9)]

    def order(nothing: float | None, margin: float) -> list[tuple[int, int] | None]:
        return [span for span, _ in rank(best, nothing, margin, 1.0)]

    assert order(None, 0.0) == [(0, 1), (5, 9)]
    assert order(2.0, 0.0) == [(0, 1), None, (5, 9)]
    assert order(3.0, 0.0) == [(0, 1), None, (5, 9)]
    assert order(3.5, 0.0)[0] is None
    assert order(3.5, 1.0) == [(0, 1), None, (5, 9)]
    assert order(0.0, -4.0) == [None, (0, 1), (5, 9)]
    assert rank([], None, 0.0, 1.0) == []
    assert rank([], 5.0, 0.0, 1.0) == [(None, 1.0)]
    assert sum(score for _, score in rank(best, 2.0, 0.0, 2.0)) == pytest.approx(1.0)
