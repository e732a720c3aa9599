"""The best of several candidates for a text: transformers' LukeForMultipleChoice, over pairs of the text and
each candidate, as in the SWAG example of transformers.
"""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.document.state import Document, no_spans
from luke_batch.heads.head import Annotation, Head, HeadConfig, Labels, Setup, SourceColumn, ask_each
from luke_batch.heads.placed_text import stride_windows
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Reads, Task


class ChoiceConfig(HeadConfig):
    """The best of several candidates for a text (LukeForMultipleChoice)."""

    columns = ("choice",)

    head: Literal["choice"] = "choice"
    candidates: list[str] = []
    """Candidates of every document."""
    candidates_column: str | None = None
    """Column with a list of candidates for each document."""
    question_column: str | None = None
    """Column with a question that is put before each candidate."""
    stride: int = Field(default=128, ge=0, le=256)
    """Tokens that neighbouring windows of a long text share."""

    @property
    def source_columns(self) -> list[SourceColumn]:
        """See HeadConfig."""
        named = [
            ("candidates_column", self.candidates_column, True),
            ("question_column", self.question_column, False),
        ]
        return [SourceColumn(setting, name, is_list) for setting, name, is_list in named if name is not None]

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.candidates) == (self.candidates_column is not None):
            raise ValueError("needs either `candidates` or `candidates_column`")
        return self


class ChoiceHead(Head):
    """`head: choice`."""

    settings = ChoiceConfig
    version = 1
    task = Task(Reads.FIRST_WORD, "choice")

    def __init__(self, config: ChoiceConfig, setup: Setup, checkpoint: Checkpoint) -> None:
        self._config = config
        self._builder = setup.builder
        self._temperature = checkpoint.require(config.head).temperature

    def annotate(self, document: Document) -> Annotation:
        """Write the best candidate; nothing where there is no text or no candidate.

        Every candidate is read with the same windows of the text; its logit is the largest of them.
        """
        column = self._config.candidates_column
        value = self._config.candidates if column is None else document.source[column]
        candidates = value if isinstance(value, list) else []
        usable = [n for n, text in enumerate(candidates) if text and not text.isspace()]
        document.coverage.drop("blank_candidate", len(candidates) - len(usable))
        text = self._ids([document.text if len(document.sentences) else ""])[0]
        if not usable or not len(text):
            return
        seconds = self._seconds(document, [candidates[n] or "" for n in usable])
        room = self._builder.max_tokens - 4 - max(len(ids) for ids in seconds)
        parts = stride_windows(len(text), room, self._config.stride)
        logits = np.full(len(usable), -np.inf, np.float32)

        def windows(part: slice) -> list[Window]:
            numbers = range(len(usable) * len(parts))[part]
            pairs = [divmod(number, len(parts)) for number in numbers]
            return [self._builder.pair_of_texts(text[parts[n]], seconds[candidate]) for candidate, n in pairs]

        def take(number: int, logit: FloatArray) -> None:
            candidate = number // len(parts)
            logits[candidate] = max(logits[candidate], logit[0])

        yield from ask_each(document, self.task, len(usable) * len(parts), windows, take)
        self._write(document, candidates, usable, logits)

    def _write(
        self,
        document: Document,
        candidates: Sequence[str | None],
        usable: Sequence[int],
        logits: FloatArray,
    ) -> None:
        scale = Labels(names=(), none=-1, multi=False, temperature=self._temperature)
        scores: list[float | None] = [None] * len(candidates)
        for place, score in zip(usable, scale.probabilities(logits[None])[0].tolist(), strict=True):
            scores[place] = score
        best = usable[int(logits.argmax())]
        document.results["choice"] = {
            "index": best,
            "text": candidates[best],
            "score": scores[best],
            "scores": scores,
        }

    def _seconds(self, document: Document, candidates: Sequence[str]) -> list[IntArray]:
        """The second text of each pair: the candidate, after the question where there is one. It has at most
        half of the window; the question is cut first.
        """
        column = self._config.question_column
        question = document.source[column] if column is not None else None
        before = f"{question} " if isinstance(question, str) and question.strip() else ""
        limit = (self._builder.max_tokens - 4) // 2
        seconds = self._ids([before + candidate for candidate in candidates])
        long = [number for number, ids in enumerate(seconds) if len(ids) > limit]
        if not long:
            return seconds
        asked = self._ids([before[:-1]])[0]
        alone = self._ids([(" " if before else "") + candidates[number] for number in long])
        for number, ids in zip(long, alone, strict=True):
            kept = ids[:limit]
            document.coverage.drop("clipped_candidate", int(len(ids) > limit))
            document.coverage.drop("clipped_question", int(len(asked) + len(kept) > limit))
            seconds[number] = np.concatenate([asked[: limit - len(kept)], kept])
        return seconds

    def _ids(self, texts: Sequence[str]) -> list[IntArray]:
        return [tokens.ids for tokens in self._builder.tokenize_many([(text, no_spans()) for text in texts])]
