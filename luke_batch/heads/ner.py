"""Named entities: one [MASK] entity for each candidate span, labelled from [h_start; h_end; h_entity].

Input and greedy decoding follow the NER example of LUKE (Yamada et al. 2020, section 4.3 and its published
code).
"""

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from luke_batch.arrays import FloatArray, IntArray
from luke_batch.config import NerConfig, Proposer
from luke_batch.document.state import Document, Mentions
from luke_batch.heads.base import Annotation, Answer, Ask, Setup, ask
from luke_batch.heads.candidates import always_kept, as_mentions, candidates, is_among
from luke_batch.heads.frames import Frame, Framer, group_by_sentence
from luke_batch.heads.scores import Labels
from luke_batch.model.engine import Task
from luke_batch.model.windows import Window, chunks


class NerHead:
    """`head: ner`."""

    name = "ner"

    def __init__(
        self, config: NerConfig, setup: Setup, labels: Labels, least_bound: float | None = None
    ) -> None:
        """`least_bound`: the probability of beginning and ending there that a span of `auto` needs by the
        checkpoint's span scorer; None: there is none, and all of them are scored.
        """
        self._config = config
        self._setup = setup
        self._builder = setup.builder
        self._labels = labels
        self._least_bound = least_bound
        self._framer = Framer(setup.builder, setup.whole_document)

    def annotate(self, document: Document) -> Annotation:
        """Label every candidate span; write those that are mentions."""
        spans = candidates(document, self._config.spans, self._setup.max_words)
        kept = is_among(spans, always_kept(document, self._config.spans))
        frames = self._framer.split(document, group_by_sentence(document, spans))
        likely = yield from self._likely(document, spans, frames)
        windows, which = self._windows(document, frames, kept, likely)
        answer = yield from ask(document, Task.SPANS, windows)
        placed = sum(len(frame.which) for frame in frames)
        document.coverage.drop(
            "longer_than_window" if len(document.sentences) else "no_token", len(spans) - placed
        )
        document.coverage.spans_proposed += len(spans)
        document.coverage.spans_scored += len(which)
        # A span that could not be scored has the logits of "no entity".
        logits = np.full((len(spans), len(self._labels.names)), -np.inf, np.float32)
        logits[:, self._labels.none] = 0
        if len(which):
            logits[which] = np.concatenate(answer)
        accepted = choose(spans, logits, self._labels.none, kept, nested=self._config.decode == "nested")
        document.merge_mentions(self._mentions(document, spans[accepted], logits[accepted]))

    def _likely(
        self, document: Document, spans: IntArray, frames: Sequence[Frame]
    ) -> Generator[Ask, Answer, NDArray[np.bool_]]:
        """(n,) whether each span is to be scored: it may begin and end a mention, or another proposer than
        `auto` brings it. The scorer sees the tokens of the frames, which are those of all spans.
        """
        others: list[Proposer] = [name for name in self._config.spans if name != "auto"]
        likely = np.ones(len(spans), bool)
        if self._least_bound is None or "all" in others or len(others) == len(self._config.spans):
            return likely
        none = np.zeros(0, np.int32)
        windows = [self._builder.mention_window(item.tokens, item.left, item.right, none) for item in frames]
        answer: Answer = (yield Ask(Task.BOUNDS, windows)) if windows else []
        for frame, bounds in zip(frames, answer, strict=True):
            # The window's first token is <s>; a span without tokens is dropped elsewhere.
            first, last = (frame.tokens.spans + 1 + len(frame.left)).T
            least = np.minimum(bounds[first, 0], bounds[np.maximum(last - 1, 0), 1])
            likely[frame.which] = least >= self._least_bound
        return likely | is_among(spans, candidates(document, others, self._setup.max_words))

    def _windows(
        self,
        document: Document,
        frames: Sequence[Frame],
        kept: NDArray[np.bool_],
        likely: NDArray[np.bool_],
    ) -> tuple[list[Window], NDArray[np.intp]]:
        """Windows of at most 128 spans each, and which span each entity of them stands for."""
        windows: list[Window] = []
        scored: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
        limit = self._builder.tokenizer.max_mention_length
        drop = document.coverage.drop
        for frame in frames:
            lengths = frame.tokens.spans[:, 1] - frame.tokens.spans[:, 0]
            wanted = likely[frame.which]
            too_long = (lengths > limit) & ~kept[frame.which] & wanted
            usable = np.flatnonzero((lengths > 0) & ~too_long & wanted).astype(np.int32)
            drop("unlikely_span", int((~wanted).sum()))
            drop("no_token", int((wanted & (lengths == 0)).sum()))
            drop("longer_than_max_mention_length", int(too_long.sum()))
            drop("clipped_mention", int(((lengths > limit) & kept[frame.which]).sum()))
            for part in chunks(len(usable)):
                windows.append(
                    self._builder.mention_window(frame.tokens, frame.left, frame.right, usable[part])
                )
                scored.append(frame.which[usable[part]])
        return windows, np.concatenate(scored)

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
