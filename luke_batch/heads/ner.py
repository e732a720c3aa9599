"""Named entities: one [MASK] entity for each candidate span, labelled from [h_start; h_end; h_entity].

Input and greedy decoding follow the NER example of LUKE (Yamada et al. 2020, section 4.3 and its published
code).
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.document.state import Document, Mentions
from luke_batch.heads.frames import Frame, Frames, always_kept, as_mentions, candidates, group_by_sentence, is_among
from luke_batch.heads.head import (
    Annotation,
    Answer,
    Ask,
    Head,
    Labels,
    Proposers,
    Setup,
    SpanHeadConfig,
    ask,
    none_index,
)
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Window, chunks
from luke_batch.model.task import Reads, Task


class NerConfig(SpanHeadConfig):
    """Named entities over proposed spans (LukeForEntitySpanClassification)."""

    repeatable = True  # a later one goes before an earlier one
    decides = frozenset({"label"})

    head: Literal["ner"] = "ner"
    spans: Proposers = ["auto"]
    """Where candidate spans come from."""
    decode: Literal["flat", "nested"] = "flat"
    """flat: best spans first, words used once; nested: every span that is not NIL."""
    threshold: float = Field(default=0.0, ge=0, lt=1)
    """Least score of a mention that is written; given and previous mentions stay, without a label."""
    none_label: str | None = None
    """Label that means "no entity"; null: what the checkpoint says, else NIL or the first label."""


class NerHead(Head):
    """`head: ner`."""

    settings = NerConfig
    version = 5
    task = Task(Reads.SPANS, "ner")

    def __init__(self, config: NerConfig, setup: Setup, checkpoint: Checkpoint) -> None:
        scorer = checkpoint.heads.get("spans")
        self._config = config
        self._max_words = setup.max_words
        self._labels = ner_labels(config, checkpoint)
        self._windows = SpanWindows(setup, config.spans, None if scorer is None else scorer.threshold or 0.5)

    @classmethod
    def tasks(cls, config: NerConfig, checkpoint: Checkpoint) -> list[Task]:
        """The span scorer's too, where it is there and spans are not given."""
        scored = "spans" in checkpoint.heads and not {"all", "auto"}.isdisjoint(config.spans)
        return [Task.BOUNDS, cls.task] if scored else [cls.task]

    @classmethod
    def check(cls, config: NerConfig, checkpoint: Checkpoint) -> None:
        """See Head."""
        ner_labels(config, checkpoint)

    def annotate(self, document: Document) -> Annotation:
        """Label every candidate span; write those that are mentions."""
        spans = candidates(document, self._config.spans, self._max_words)
        kept = is_among(spans, always_kept(document, self._config.spans))
        windows, which = yield from self._windows.of(document, spans, kept)
        answer = yield from ask(document, self.task, windows)
        document.coverage.spans_proposed += len(spans)
        document.coverage.spans_scored += len(which)
        # A span that could not be scored has the logits of "no entity".
        logits = np.full((len(spans), len(self._labels.names)), -np.inf, np.float32)
        logits[:, self._labels.none] = 0
        if len(which):
            logits[which] = np.concatenate(answer)
        accepted = choose(spans, logits, self._labels.none, kept, nested=self._config.decode == "nested")
        unsure = self._labels.probabilities(logits[accepted]).max(axis=1) < self._config.threshold
        unsure &= logits[accepted].argmax(axis=1) != self._labels.none
        document.coverage.drop("unsure_mention", int(unsure.sum()))
        logits[accepted[unsure]] = -np.inf
        logits[accepted[unsure], self._labels.none] = 0
        accepted = accepted[~unsure | kept[accepted]]
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


Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Spans of a document that share windows with no others."""

    frames: list[Frame]
    wanted: Booleans
    """(n,) which of the document's candidates they are; `frames` may hold spans that are none of them."""


def ner_labels(config: NerConfig, checkpoint: Checkpoint) -> Labels:
    """The labels of a checkpoint. ConfigError where `none_label` is not one of them."""
    facts = checkpoint.require("ner")
    none = none_index(config.head, config.none_label, facts, "NIL", checkpoint.path)
    return Labels.of(facts, none=0 if none is None else none)  # a span is one thing, or nothing


class SpanWindows:
    """Deals the candidates of one `ner` head to windows."""

    def __init__(self, setup: Setup, proposers: Sequence[str], least_bound: float | None) -> None:
        """`least_bound`: the probability of beginning and ending there that a likely span has by the
        checkpoint's span scorer, and that `auto` asks for; None: there is no scorer, and all are likely.
        """
        self._builder = setup.builder
        self._max_words = setup.max_words
        self._proposers = proposers
        self._least_bound = least_bound
        self._whole_document = setup.whole_document

    def of(
        self, document: Document, spans: IntArray, kept: Booleans
    ) -> Generator[Ask, Answer, tuple[list[Window], NDArray[np.intp]]]:
        """Windows of at most 128 spans each, and which span each entity of them stands for. What is left out
        is counted in the document's coverage.

        Args:
            document: whose sentences are read.
            spans: (n, 2) all candidates, sorted as `candidates` does.
            kept: (n,) those that are read however long they are.
        """
        parts = yield from self._parts(document, spans, Frames(document, self._builder, self._whole_document))
        _count_left_out(document, len(spans), parts)
        windows: list[Window] = []
        shown: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
        for part in parts:
            for frame in part.frames:
                usable = self._usable(document, frame, part.wanted[frame.which], kept[frame.which])
                for chunk in chunks(len(usable)):
                    windows.append(self._builder.mention_window(frame.tokens, frame.left, frame.right, usable[chunk]))
                    shown.append(frame.which[usable[chunk]])
        return windows, np.concatenate(shown)

    def _parts(self, document: Document, spans: IntArray, source: Frames) -> Generator[Ask, Answer, list[_Part]]:
        """The likely spans, and for `all` the others."""
        names = self._proposers
        if self._least_bound is None or {"all", "auto"}.isdisjoint(names):
            every = np.ones(len(spans), bool)
            return [_Part(_frames(document, spans, every, source), every)]
        usual: list[str] = ["auto" if name == "all" else name for name in names]
        others: list[str] = [name for name in usual if name != "auto"]
        looked_at = np.ones(len(spans), bool)
        if "all" in names:
            looked_at = is_among(spans, candidates(document, usual, self._max_words))
        frames = _frames(document, spans, looked_at, source)
        likely = yield from self._likely(frames, len(spans), self._least_bound)
        likely |= is_among(spans, candidates(document, others, self._max_words))
        parts = [_Part(frames, likely)]
        if "all" in names:
            parts.append(_Part(_frames(document, spans, ~likely, source), ~likely))
        return parts

    def _likely(self, frames: Sequence[Frame], count: int, least: float) -> Generator[Ask, Answer, Booleans]:
        """(count,) whether each span may begin and end a mention, by the tokens of its frame."""
        likely = np.zeros(count, bool)
        none = np.zeros(0, np.int32)
        windows = [self._builder.mention_window(item.tokens, item.left, item.right, none) for item in frames]
        answer: Answer = (yield Ask(Task.BOUNDS, windows)) if windows else []
        for frame, bounds in zip(frames, answer, strict=True):
            # The window's first token is <s>; a span without tokens is dropped elsewhere.
            first, last = (frame.tokens.spans + 1 + len(frame.left)).T
            lower = np.minimum(bounds[first, 0], bounds[np.maximum(last - 1, 0), 1])
            likely[frame.which] = lower >= least
        return likely

    def _usable(self, document: Document, frame: Frame, wanted: Booleans, kept: Booleans) -> IntArray:
        """Indices of the wanted spans of a frame that the model can read; counts the others."""
        limit = self._builder.tokenizer.max_mention_length
        drop = document.coverage.drop
        lengths = frame.tokens.spans[:, 1] - frame.tokens.spans[:, 0]
        too_long = (lengths > limit) & ~kept & wanted
        drop("no_token", int((wanted & (lengths == 0)).sum()))
        drop("longer_than_max_mention_length", int(too_long.sum()))
        drop("clipped_mention", int(((lengths > limit) & kept).sum()))
        return np.flatnonzero((lengths > 0) & ~too_long & wanted).astype(np.int32)


def _count_left_out(document: Document, count: int, parts: Sequence[_Part]) -> None:
    """Count the spans that no part wants, and those that no frame of their part has."""
    framed, wanted, placed = np.zeros((3, count), bool)
    for part in parts:
        wanted |= part.wanted
        for frame in part.frames:
            framed[frame.which] = True
            placed[frame.which] |= part.wanted[frame.which]
    unlikely = int((framed & ~wanted).sum())
    document.coverage.drop("unlikely_span", unlikely)
    document.coverage.drop(
        "longer_than_window" if len(document.sentences) else "no_token", count - unlikely - int(placed.sum())
    )


def _frames(document: Document, spans: IntArray, wanted: Booleans, source: Frames) -> list[Frame]:
    """Those of the `wanted` of all `spans`, which alone cut the text; `which` counts in all."""
    places = np.flatnonzero(wanted)
    regions = group_by_sentence(document, spans[places])
    return [replace(frame, which=places[frame.which]) for frame in source.split(regions)]
