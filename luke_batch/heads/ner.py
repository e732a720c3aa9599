"""Named entities: one [MASK] entity for each candidate span, labelled from [h_start; h_end; h_entity].

Input and greedy decoding follow the NER example of LUKE (Yamada et al. 2020, section 4.3 and its published
code).
"""

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.config import NerConfig
from luke_batch.document.state import Document, Mentions
from luke_batch.heads.base import Annotation, Setup, ask
from luke_batch.heads.candidates import always_kept, as_mentions, candidates, is_among
from luke_batch.heads.scores import Labels
from luke_batch.heads.windows.span_windows import SpanWindows
from luke_batch.model.engine.engine import Task


class NerHead:
    """`head: ner`."""

    name = "ner"

    def __init__(self, config: NerConfig, setup: Setup, labels: Labels, least_bound: float | None = None) -> None:
        """`least_bound` as for `SpanWindows`."""
        self._config = config
        self._max_words = setup.max_words
        self._labels = labels
        self._windows = SpanWindows(setup, config.spans, least_bound)

    def annotate(self, document: Document) -> Annotation:
        """Label every candidate span; write those that are mentions."""
        spans = candidates(document, self._config.spans, self._max_words)
        kept = is_among(spans, always_kept(document, self._config.spans))
        windows, which = yield from self._windows.of(document, spans, kept)
        answer = yield from ask(document, Task.SPANS, windows)
        document.coverage.spans_proposed += len(spans)
        document.coverage.spans_scored += len(which)
        # A span that could not be scored has the logits of "no entity".
        logits = np.full((len(spans), len(self._labels.names)), -np.inf, np.float32)
        logits[:, self._labels.none] = 0
        if len(which):
            logits[which] = np.concatenate(answer)
        accepted = choose(spans, logits, self._labels.none, kept, nested=self._config.decode == "nested")
        document.merge_mentions(self._mentions(document, spans[accepted], logits[accepted]))

    def _mentions(self, document: Document, spans: IntArray, logits: FloatArray) -> Mentions:
        """Mentions in the order of `spans`, which are sorted; only kept ones may be without a label. Given
        ones bear the title they came with.
        """
        mentions = as_mentions(document, spans, self._config.spans)
        best = logits.argmax(axis=1)
        scores = self._labels.probabilities(logits)
        for index, label in enumerate(best.tolist()):
            if label != self._labels.none:
                mentions.labels[index] = self._labels.names[label]
                mentions.scores[index] = scores[index, label]
        return mentions


def choose(
    spans: IntArray, logits: FloatArray, none: int, kept: NDArray[np.bool_], *, nested: bool
) -> NDArray[np.intp]:
    """Indices of the accepted spans, ascending.

    Spans whose best label is `none` are left out. flat: the rest are taken by their best raw logit,
    descending (stable), as long as their characters are free. Spans that are `kept` always stay; the labelled
    ones of them take their characters first.

    Args:
        spans: (n, 2) offsets.
        logits: (n, labels).
        none: the label that means "no entity".
        kept: (n,) spans that are never dropped.
        nested: keep overlapping spans.
    """
    named = logits.argmax(axis=1) != none
    if nested:
        return np.flatnonzero(named | kept)
    chosen = np.flatnonzero(kept)
    # A kept span that no label fits takes no characters: what is found inside it is all there is.
    labelled = np.flatnonzero(kept & named)
    rivals = np.flatnonzero(named & ~kept)
    rivals = rivals[np.argsort(-logits[rivals].max(axis=1), kind="stable")]
    taken = np.zeros(int(spans[:, 1].max(initial=0)), bool)
    for start, end in spans[labelled].tolist():
        taken[start:end] = True
    accepted: list[int] = []
    for index, (start, end) in zip(rivals.tolist(), spans[rivals].tolist(), strict=True):
        if not taken[start:end].any():
            taken[start:end] = True
            accepted.append(index)
    return np.sort(np.concatenate([chosen, np.array(accepted, np.intp)]))
