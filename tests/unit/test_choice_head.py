"""`head: choice` against LukeForMultipleChoice: pairs of text and candidate, in windows of the text."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers

from tests.checkpoints import Recipe, with_head
from tests.text_heads import LONG, NOTHING, SHORT, Reference, annotate, softmax, starts, with_section

Folders = Callable[[Recipe], Path]
CHOICE = with_head("choice", Recipe())
OPTIONS = ["She was born in Warsaw.", "東京", "in Paris, of all places"]


def logits_of(reference: Reference, text: str, seconds: list[list[int]], stride: int) -> tuple[np.ndarray, int]:
    """The largest logit of each candidate over the windows of the text, and all tokens that are read."""
    ids = reference.ids(text)
    room = 512 - 4 - max(len(second) for second in seconds)
    windows = [ids[start : start + room] for start in starts(len(ids), room, stride)]
    logits = [max(float(reference(window, second)[0]) for window in windows) for second in seconds]
    read = sum(len(window) + len(second) + 4 for window in windows for second in seconds)
    return np.array(logits), read


@pytest.mark.parametrize(("kind", "engine"), [("luke", "fast"), ("luke", "transformers"), ("mluke", "fast")])
def test_choices_equal_those_of_transformers(
    kind: Literal["luke", "mluke"], engine: str, checkpoint_folder: Folders
) -> None:
    """A text that fits, and one of 3,000 tokens: every candidate with every window, the best one of each, and
    the softmax of these.
    """
    folder = checkpoint_folder(replace(CHOICE, kind=kind))
    reference = Reference(folder, "choice")
    seconds = [reference.ids(option) for option in OPTIONS]
    head = {"head": "choice", "candidates": OPTIONS, "stride": 90}
    short, long = annotate(folder, head, [SHORT, LONG], engine)
    for row in (short, long):
        logits, read = logits_of(reference, row["text"], seconds, stride=90)
        found: dict[str, Any] = row["choice"]
        assert found["scores"] == pytest.approx(softmax(logits).tolist(), abs=1e-4)
        assert found["index"] == int(logits.argmax())
        assert found["text"] == OPTIONS[found["index"]]
        assert found["score"] == found["scores"][found["index"]]
        assert row["coverage"]["tokens"] == read
        assert row["coverage"]["dropped"] == []
    assert long["coverage"]["windows"] >= 3 * 7


def test_one_call_of_transformers_gives_the_same(checkpoint_folder: Folders) -> None:
    """The class's own input of shape (1, choices, tokens), padded, with a question before each candidate."""
    folder = checkpoint_folder(CHOICE)
    question = "Where was Marie Curie born?"
    tokenizer = transformers.LukeTokenizer.from_pretrained(folder)
    seconds = [f"{question} {option}" for option in OPTIONS]
    inputs = tokenizer([SHORT] * len(seconds), seconds, return_tensors="pt", padding=True)
    model = transformers.LukeForMultipleChoice.from_pretrained(folder).eval()
    with torch.inference_mode():
        names = ("input_ids", "attention_mask")
        logits = model(**{name: inputs[name].unsqueeze(0) for name in names}).logits[0]
    columns = {"options": pa.array([OPTIONS]), "asked": pa.array([question])}
    head = {"head": "choice", "candidates_column": "options", "question_column": "asked"}
    (row,) = annotate(folder, head, [SHORT], **columns)
    assert row["choice"]["scores"] == pytest.approx(logits.softmax(-1).tolist(), abs=1e-4)


def test_candidates_of_each_document(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """Lists of any length: null and blank ones have no score and are counted, indices are those of the list;
    without a candidate the result is null. Temperature divides the logits.
    """
    folder = with_section(checkpoint_folder(CHOICE), tmp_path / "warm", temperature=0.5)
    reference = Reference(folder, "choice")
    lists = [[None, *OPTIONS, " "], ["alone"], [], None, [None]]
    head = {"head": "choice", "candidates_column": "options"}
    rows = annotate(folder, head, [SHORT] * len(lists), options=pa.array(lists))
    logits, _ = logits_of(reference, SHORT, [reference.ids(option) for option in OPTIONS], 128)
    first = rows[0]["choice"]
    assert first["scores"][1:4] == pytest.approx(softmax(logits, 0.5).tolist(), abs=1e-4)
    assert (first["scores"][0], first["scores"][4]) == (None, None)
    assert first["index"] == 1 + int(logits.argmax())
    assert rows[0]["coverage"]["dropped"] == [{"reason": "blank_candidate", "count": 2}]
    assert rows[1]["choice"] == {"index": 0, "text": "alone", "score": 1.0, "scores": [1.0]}
    assert [row["choice"] for row in rows[2:]] == [None, None, None]
    assert [row["coverage"]["windows"] for row in rows[2:]] == [0, 0, 0]


def test_texts_without_words_have_no_choice(checkpoint_folder: Folders) -> None:
    """Null, empty, white space, what the tokenizer leaves out: null, and nothing is read."""
    head = {"head": "choice", "candidates": OPTIONS}
    folder = checkpoint_folder(replace(CHOICE, kind="mluke"))
    for row in annotate(folder, head, NOTHING):
        assert row["choice"] is None
        assert row["coverage"]["windows"] == 0


def test_what_does_not_fit_is_cut_and_counted(checkpoint_folder: Folders) -> None:
    """Question and candidate have half of the window; the question is cut first, and so is never lost a
    candidate that fits.
    """
    folder = checkpoint_folder(CHOICE)
    reference = Reference(folder, "choice")
    question = "Where was Marie Curie born? " * 9
    long = "in Warsaw, " * 60
    columns = {"options": pa.array([["Paris", long]]), "asked": pa.array([question])}
    head = {"head": "choice", "candidates_column": "options", "question_column": "asked", "stride": 0}
    (row,) = annotate(folder, head, [SHORT], **columns)
    asked, candidate = reference.ids(question), reference.ids(" " + long)[:254]
    assert len(asked) < 254 - 5
    seconds = [reference.ids(f"{question} Paris"), candidate]
    logits, read = logits_of(reference, SHORT, seconds, 0)
    assert row["choice"]["scores"] == pytest.approx(softmax(logits).tolist(), abs=1e-4)
    assert row["coverage"]["tokens"] == read
    assert row["coverage"]["dropped"] == [
        {"reason": "clipped_candidate", "count": 1},
        {"reason": "clipped_question", "count": 1},
    ]
    columns["asked"] = pa.array([question * 4])
    (row,) = annotate(folder, head, [SHORT], **columns)
    paris = reference.ids(" Paris")
    seconds = [[*reference.ids(question * 4)[: 254 - len(paris)], *paris], candidate]
    logits, _ = logits_of(reference, SHORT, seconds, 0)
    assert row["choice"]["scores"] == pytest.approx(softmax(logits).tolist(), abs=1e-4)
    assert {"reason": "clipped_question", "count": 2} in row["coverage"]["dropped"]
