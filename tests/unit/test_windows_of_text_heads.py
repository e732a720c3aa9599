"""With a model that reads each token by itself, it changes nothing where a text is cut into windows: whatever
the text, no word, answer or token is lost between two of them.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luke_batch.base.arrays import FloatArray
from luke_batch.config import ChoiceConfig, ProposerConfig, QaConfig, TokensConfig
from luke_batch.document.state import Document
from luke_batch.heads.choice import ChoiceHead
from luke_batch.heads.head import Head, Setup
from luke_batch.heads.placed_text import PlacedText
from luke_batch.heads.qa import QaHead
from luke_batch.heads.run import run_head
from luke_batch.heads.tokens import TokensHead
from luke_batch.model.engine.engine import Task
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.facts import HeadFacts
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder, Window
from luke_batch.text.words import words
from tests.raw_texts import any_text

GOLDEN = Path(__file__).parents[1] / "golden"
FACTS = HeadFacts(labels=("O", "B-X", "I-X", "B-Y", "I-Y"))
CHECKPOINT = Checkpoint(
    path="",
    folder=Path(),
    revision=None,
    pinned="",
    config={},
    tensors={},
    heads=dict.fromkeys(("tokens", "qa", "choice"), FACTS),
    multi_head=True,
    context=None,
    max_mention_length=30,
)
LARGE = 100_000

texts = st.lists(any_text, min_size=1, max_size=6).map(" ".join)
kinds = pytest.mark.parametrize("kind", ["luke", "mluke"])


@cache
def tokenizer(kind: str) -> Tokenizer:
    """A golden tokenizer."""
    return Tokenizer.load(GOLDEN / f"{kind}-v4-layout")


class TokenByToken:
    """An engine whose logits of a token depend on its id alone, and those of a text on its largest token."""

    def __init__(self) -> None:
        self._logits = np.random.default_rng(0).normal(size=(1000, 5)).astype(np.float32)

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        """See Engine."""
        rows = [self._logits[window.token_ids] for window in windows]
        if task == Task.CHOICE:
            return [row[:, 0].max(keepdims=True) for row in rows]
        return [row[:, :2] if task == Task.QA else row for row in rows]


def setup(kind: str, max_tokens: int) -> Setup:
    """What a head gets."""
    builder = InputBuilder(tokenizer(kind), max_tokens)
    return Setup(builder=builder, max_words=8, whole_document=False, proposers=ProposerConfig())


def run(head: Head, text: str) -> Document:
    """One sentence, annotated."""
    sentences = np.array([[0, len(text)]] if text and not text.isspace() else [], np.int32).reshape(-1, 2)
    document = Document(text=text, sentences=sentences, words=words(text, None))
    run_head(head, [document], TokenByToken(), "cpu")
    assert document.failure is None
    return document


@kinds
@given(text=texts, max_tokens=st.integers(4, 40), stride=st.integers(0, 20))
@settings(max_examples=60)
def test_words_are_labelled_alike(kind: str, text: str, max_tokens: int, stride: int) -> None:
    """The spans in windows are those of the text read at once, and every word counts as scored or dropped."""
    config = TokensConfig(stride=stride)
    whole = run(TokensHead(config, setup(kind, LARGE), CHECKPOINT), text)
    cut = run(TokensHead(config, setup(kind, max_tokens), CHECKPOINT), text)
    assert cut.results == whole.results
    lost = cut.coverage.dropped["no_token"]
    assert cut.coverage.spans_scored + lost == cut.coverage.spans_proposed == len(cut.words)
    assert kind == "mluke" or not lost


@kinds
@given(text=texts, max_tokens=st.integers(16, 25), longest=st.integers(1, 4))
@settings(max_examples=60)
def test_the_best_answers_are_those_of_all_pairs(kind: str, text: str, max_tokens: int, longest: int) -> None:
    """Windows of at most 20 tokens try all of their pairs; where an answer is not longer than half of what
    neighbours share, the best ones of all windows are the best ones of the text.
    """
    question = "a?"
    asked = len(tokenizer(kind).encode([question])[0])
    room = max_tokens - 4 - asked
    stride = room // 2
    longest = max(1, min(longest, stride // 2))
    config = QaConfig(questions=[question], stride=stride, max_answer_tokens=longest, n_best=20)
    found = run(QaHead(config, setup(kind, max_tokens), CHECKPOINT), text).results["answers"]
    assert isinstance(found, list)
    placed = PlacedText.of(tokenizer(kind), text if text and not text.isspace() else "")
    (logits,) = TokenByToken().run(Task.QA, [InputBuilder(tokenizer(kind), LARGE).text_window(placed.ids)])
    inner, characters = logits[1:-1], placed.characters.tolist()
    pairs: dict[tuple[int, int], float] = {}
    for a in range(len(inner)):
        for b in range(a, min(a + longest, len(inner))):
            span, shows = (characters[a][0], characters[b][1]), characters[b][0] < characters[b][1]
            if shows and span[0] < span[1]:
                pairs[span] = max(pairs.get(span, -np.inf), float(inner[a, 0] + inner[b, 1]))
    if not pairs:
        assert [row["start"] for row in found] == [None]
        return
    spans: list[Any] = [(row["start"], row["end"]) for row in found]
    assert len(set(spans)) == len(spans) == min(20, len(pairs))
    wanted = sorted(pairs.values(), reverse=True)[:20]
    assert [pairs[span] for span in spans] == pytest.approx(wanted)


@kinds
@given(text=texts, max_tokens=st.integers(12, 40), stride=st.integers(0, 20))
@settings(max_examples=60)
def test_every_token_reaches_each_candidate(kind: str, text: str, max_tokens: int, stride: int) -> None:
    """The largest token of the text decides wherever it stands: candidates score as with the text at once."""
    config = ChoiceConfig(candidates=["a", "b c"], stride=stride)
    whole = run(ChoiceHead(config, setup(kind, LARGE), CHECKPOINT), text)
    cut = run(ChoiceHead(config, setup(kind, max_tokens), CHECKPOINT), text)
    assert not cut.coverage.dropped
    assert cut.results == whole.results
