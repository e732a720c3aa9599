"""Answers to questions as spans of the text: transformers' LukeForQuestionAnswering.

Windows, pairs of starts and ends, and scores follow the SQuAD script of BERT (Devlin et al. 2019) and of
transformers: the text is read in windows after the question, and an answer is scored in the window where its
start has most context.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.base.section import listed
from luke_batch.document.state import Document, Row, no_spans
from luke_batch.heads.head import Annotation, Head, HeadConfig, Setup, SourceColumn, ask_each
from luke_batch.heads.placed_text import PlacedText, best_windows, stride_windows
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Reads, Task


class QaConfig(HeadConfig):
    """Answers to questions, as spans of the text (LukeForQuestionAnswering)."""

    columns = ("answers",)

    head: Literal["qa"] = "qa"
    questions: Annotated[list[str], BeforeValidator(listed)] = []
    """Questions that are asked of every document."""
    question_column: str | None = None
    """Column with a question, or with a list of them, for each document."""
    n_best: int = Field(default=1, ge=1, le=20)
    """Answers that are written for each question, best first."""
    max_answer_tokens: int = Field(default=30, ge=1)
    """Longest answer in tokens; one longer than half of `stride` may be cut off by its window."""
    stride: int = Field(default=128, ge=0, le=256)
    """Tokens that neighbouring windows of a long text share."""
    no_answer: bool = False
    """The checkpoint was trained to say that a text has no answer (SQuAD 2)."""
    no_answer_margin: float = 0.0
    """With `no_answer`: by how much the logits of no answer must exceed those of the best answer."""

    @property
    def source_columns(self) -> list[SourceColumn]:
        """See HeadConfig."""
        name = self.question_column
        return [] if name is None else [SourceColumn("question_column", name, is_list=None)]

    @model_validator(mode="after")
    def _has_questions(self) -> Self:
        if not self.questions and self.question_column is None:
            raise ValueError("needs `questions` or `question_column`")
        return self


_MOST_QUESTION_TOKENS = 64
"""Longer questions are cut, as in the SQuAD script."""


class Found(NamedTuple):
    """An answer: characters [start, end) of the text, and the sum of their two logits."""

    logit: float
    start: int
    end: int


@dataclass(slots=True)
class _Asked:
    """A question and the answers that were found so far."""

    text: str
    ids: IntArray
    windows: list[slice]
    best: NDArray[np.intp]
    """(t,) the window in which each token of the text has most context."""
    found: list[Found]
    nothing: float = np.inf
    """The least score of "no answer" over the windows."""


class QaHead(Head):
    """`head: qa`."""

    settings = QaConfig
    version = 1
    task = Task(Reads.WORDS, "qa")

    def __init__(self, config: QaConfig, setup: Setup, checkpoint: Checkpoint) -> None:
        self._config = config
        self._builder = setup.builder
        self._temperature = checkpoint.require(config.head).temperature

    def annotate(self, document: Document) -> Annotation:
        """Write the best answers to each question; one without offsets where there is none."""
        questions = self._questions(document)
        read = questions and len(document.sentences)
        placed = PlacedText.of(self._builder.tokenizer, document.text if read else "")
        asked = self._asked(document, questions, len(placed.ids))
        longest = self._config.max_answer_tokens
        items = [(question, number) for question in asked for number in range(len(question.windows))]

        def windows(part: slice) -> list[Window]:
            return [
                self._builder.pair_of_texts(question.ids, placed.ids[question.windows[number]])
                for question, number in items[part]
            ]

        def take(index: int, logits: FloatArray) -> None:
            question, number = items[index]
            window = question.windows[number]
            inner = logits[len(question.ids) + 3 : -1]  # behind <s> question </s></s>, and before </s>
            question.nothing = min(question.nothing, float(logits[0].sum()))
            found = window_answers(inner, placed.characters[window], question.best[window] == number, longest)
            question.found = best_answers([*question.found, *found])

        yield from ask_each(document, self.task, len(items), windows, take)
        document.results["answers"] = [row for question in asked for row in self._rows(document, question)]

    def _questions(self, document: Document) -> list[str]:
        """What is asked of the document: the job's own questions, then those of its column."""
        column = self._config.question_column
        value = None if column is None else document.source[column]
        own = value if isinstance(value, list) else [] if value is None else [value]
        every = [*self._config.questions, *own]
        asked = [question for question in every if question and not question.isspace()]
        document.coverage.drop("blank_question", len(every) - len(asked))
        return asked

    def _asked(self, document: Document, questions: list[str], tokens: int) -> list[_Asked]:
        room = self._builder.max_tokens - 4
        limit = min(_MOST_QUESTION_TOKENS, room // 2)
        layouts: dict[int, tuple[list[slice], NDArray[np.intp]]] = {}
        asked: list[_Asked] = []
        for text, made in zip(
            questions, self._builder.tokenize_many([(text, no_spans()) for text in questions]), strict=True
        ):
            ids = made.ids[:limit]
            document.coverage.drop("clipped_question", int(len(made.ids) > limit))
            if len(ids) not in layouts:
                windows = stride_windows(tokens, room - len(ids), self._config.stride)
                layouts[len(ids)] = windows, best_windows(windows)
            asked.append(_Asked(text, ids, *layouts[len(ids)], []))
        return asked

    def _rows(self, document: Document, question: _Asked) -> list[Row]:
        nothing = question.nothing if self._config.no_answer and question.windows else None
        margin = self._config.no_answer_margin
        ranked = rank(question.found, nothing, margin, self._temperature)[: self._config.n_best]
        rows: list[Row] = []
        for span, score in ranked or [(None, None)]:
            start, end = span or (None, None)
            quoted = None if span is None else document.text[start:end]
            rows.append({"question": question.text, "start": start, "end": end, "text": quoted, "score": score})
        return rows


N_BEST = 20
"""Starts and ends of a window that are paired, and answers of a text that share the probability."""


def window_answers(logits: FloatArray, characters: IntArray, own: NDArray[np.bool_], most_tokens: int) -> list[Found]:
    """The pairs of the best starts and ends of a window that make an answer of at most `most_tokens`.

    A token that shows no character ends none; one that is the space before a word begins with that word.

    Args:
        logits: (t, 2) of the t tokens of the text in the window.
        characters: (t, 2) what each of them shows.
        own: (t,) tokens that have most context in this window: an answer starts with one of them.
        most_tokens: longest answer.
    """
    starts = _best(logits[:, 0], np.flatnonzero(own))
    ends = _best(logits[:, 1], np.flatnonzero(characters[:, 0] < characters[:, 1]))
    length = ends[None, :] - starts[:, None]
    fitting = (length >= 0) & (length < most_tokens) & (characters[starts, :1] < characters[ends, 1][None, :])
    first, last = (places[index] for places, index in zip((starts, ends), np.nonzero(fitting), strict=True))
    sums = logits[first, 0] + logits[last, 1]
    rows = zip(sums.tolist(), characters[first, 0].tolist(), characters[last, 1].tolist(), strict=True)
    return [Found(*row) for row in rows]


def best_answers(found: Sequence[Found]) -> list[Found]:
    """The best of them, best first, each span once; of equals the earlier and shorter one."""
    spans: set[tuple[int, int]] = set()
    best: list[Found] = []
    for answer in sorted(found, key=lambda answer: (-answer.logit, answer.start, answer.end)):
        if len(best) < N_BEST and (answer.start, answer.end) not in spans:
            spans.add((answer.start, answer.end))
            best.append(answer)
    return best


def rank(
    best: Sequence[Found], nothing: float | None, margin: float, temperature: float
) -> list[tuple[tuple[int, int] | None, float]]:
    """Answers and perhaps "no answer" (None) with their probabilities, in the order to be written.

    The probabilities are the softmax of all logits divided by `temperature`. The order is that of the logits;
    but "no answer" comes first only where it exceeds the best answer by more than `margin`.

    Args:
        best: answers, best first.
        nothing: logit of "no answer"; None: it is no candidate.
        margin: in logits.
        temperature: of the checkpoint.
    """
    spans: list[tuple[int, int] | None] = [(answer.start, answer.end) for answer in best]
    logits = [answer.logit for answer in best]
    if nothing is not None:
        place = sum(logit >= nothing for logit in logits)
        if best:
            place = 0 if nothing - logits[0] > margin else max(place, 1)
        spans.insert(place, None)
        logits.insert(place, nothing)
    if not logits:
        return []
    scaled = (np.array(logits) - max(logits)) / temperature
    weights = np.exp(scaled)
    return list(zip(spans, (weights / weights.sum()).tolist(), strict=True))


def _best(logits: FloatArray, places: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those N_BEST of the `places` that have the largest logits, of equals the earlier."""
    return places[np.argsort(-logits[places], kind="stable")[:N_BEST]]
