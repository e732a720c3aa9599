"""Labels or values of a whole text: transformers' LukeForSequenceClassification, from the state of `<s>`."""

import numpy as np

from luke_batch.document.state import Document, Row, no_spans
from luke_batch.heads.base import Annotation, Setup, ask_each
from luke_batch.heads.scores import Labels
from luke_batch.heads.windows.sentence_windows import sentence_windows
from luke_batch.model.engine.engine import Task
from luke_batch.model.inputs.windows import Window


class SequenceHead:
    """`head: sequence`."""

    name = "sequence"

    def __init__(self, setup: Setup, labels: Labels, *, regression: bool) -> None:
        self._builder = setup.builder
        self._labels = labels
        self._regression = regression

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

        yield from ask_each(document, Task.SEQUENCE, len(parts), windows, take)
        tokens = sum(len(ids) for ids in parts)
        document.results["sequence"] = self._rows((total / tokens).astype(np.float32)) if tokens else []

    def _rows(self, logits: np.ndarray) -> list[Row]:
        if self._regression:
            named = zip(self._labels.names, logits.tolist(), strict=True)
            return [{"label": name, "score": None, "value": value} for name, value in named]
        found = self._labels.decode(logits)
        return [{"label": label, "score": score, "value": None} for label, score in found]
