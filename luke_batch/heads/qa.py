"""Answers to questions as spans of the text: transformers' LukeForQuestionAnswering.

Windows, pairs of starts and ends, and scores follow the SQuAD script of BERT (Devlin et al. 2019) and of
transformers: the text is read in windows after the question, and an answer is scored in the window where its
start has most context.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.config import QaConfig
from luke_batch.document.state import Document, Row, no_spans
from luke_batch.heads.answers import Found, best_answers, rank, window_answers
from luke_batch.heads.base import Annotation, Setup, ask_each
from luke_batch.heads.windows.placed_text import PlacedText
from luke_batch.heads.windows.stride_windows import best_windows, stride_windows
from luke_batch.model.engine.engine import Task
from luke_batch.model.inputs.windows import Window

_MOST_QUESTION_TOKENS = 64
"""Longer questions are cut, as in the SQuAD script."""


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


class QaHead:
    """`head: qa`."""

    name = "qa"

    def __init__(self, config: QaConfig, setup: Setup, temperature: float) -> None:
        self._config = config
        self._builder = setup.builder
        self._temperature = temperature

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

        yield from ask_each(document, Task.ANSWERS, len(items), windows, take)
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
