"""Labels or values of a whole text: transformers' LukeForSequenceClassification, from the state of `<s>`."""

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from luke_batch.document.state import Document, Row, no_spans
from luke_batch.heads.head import Annotation, Head, HeadConfig, Labels, Setup, ask_each
from luke_batch.heads.sentence_windows import sentence_windows
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Reads, Task


class SequenceConfig(HeadConfig):
    """Labels or values of a text (LukeForSequenceClassification)."""

    columns = ("sequence",)

    head: Literal["sequence"] = "sequence"
    multi_label: Literal["auto"] | bool = "auto"
    """auto: what the checkpoint says."""
    regression: Literal["auto"] | bool = "auto"
    """The outputs are values instead of labels; auto: what the checkpoint says, else where it has a single
    one.
    """
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Multi-label: labels with at least this probability are written; null: what the checkpoint says, else
    0.5.
    """

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.multi_label is True and self.regression is True:
            raise ValueError("either `multi_label` or `regression`: values are no labels")
        return self


class SequenceHead(Head):
    """`head: sequence`."""

    settings = SequenceConfig
    version = 1
    task = Task(Reads.FIRST_WORD, "sequence")

    def __init__(self, config: SequenceConfig, setup: Setup, checkpoint: Checkpoint) -> None:
        facts = checkpoint.require(config.head)
        self._builder = setup.builder
        self._labels = Labels.of(facts, multi=config.multi_label, threshold=config.threshold)
        if config.regression != "auto":
            self._regression = config.regression
        elif facts.regression is None:
            self._regression = len(facts.labels) == 1 and not self._labels.multi
        else:
            self._regression = facts.regression and config.multi_label is not True

    def annotate(self, document: Document) -> Annotation:
        """Write the labels of the text, or its values; none where it has no token.

        The logits of a text in several windows are their mean, each window weighted by its tokens.
        """
        parts = [part.tokens.ids for part in sentence_windows(document, no_spans(), self._builder)]
        total = np.zeros(len(self._labels.names), np.float64)

        def windows(part: slice) -> list[Window]:
            return [self._builder.text_window(ids) for ids in parts[part]]

        def take(number: int, logits: np.ndarray) -> None:
            nonlocal total
            total += len(parts[number]) * logits.astype(np.float64)

        yield from ask_each(document, self.task, len(parts), windows, take)
        tokens = sum(len(ids) for ids in parts)
        document.results["sequence"] = self._rows((total / tokens).astype(np.float32)) if tokens else []

    def _rows(self, logits: np.ndarray) -> list[Row]:
        if self._regression:
            named = zip(self._labels.names, logits.tolist(), strict=True)
            return [{"label": name, "score": None, "value": value} for name, value in named]
        found = self._labels.decode(logits)
        return [{"label": label, "score": score, "value": None} for label, score in found]
