"""One pass over a sentence for all heads of a checkpoint that were trained so: every mention is a [MASK] entity of one
window, and types, relations and vectors are read off its states.

A pass for each mention or each ordered pair (Yamada et al. 2020, sections 4.1 and 4.2) costs a sentence with n mentions
n or n (n - 1) windows; Zhong and Chen 2021 (section 3.3) measure what one pass for all pairs costs in F1 and saves in
time.
"""

from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.base.errors import ConfigError
from luke_batch.document.state import Document, no_spans
from luke_batch.heads.frames import Frames, group_by_sentence, sentence_cuts
from luke_batch.heads.head import Answer, Ask, Setup, ask
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Window, chunks
from luke_batch.model.task import Task

Input = Literal["auto", "marked", "joint"]


@dataclass(frozen=True, slots=True, eq=False)
class JointStates:
    """What a pass over the mentions of a document has read."""

    spans: IntArray
    """(n, 2) the mentions, in the order of `candidates`."""
    states: FloatArray
    """(n, hidden) last hidden states of their entities; NaN for one that no window holds."""
    words: FloatArray
    """(windows, hidden) means of the states of the windows' words."""
    counts: IntArray
    """(windows,) how many words these are; 0 in a window whose words another one has."""
    read: NDArray[np.bool_]
    """(sentences,) those that some window holds."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n,) which mentions have a state."""
        return ~np.isnan(self.states[:, 0])


def is_joint(head: str, wanted: Input, checkpoint: Checkpoint) -> bool:
    """Whether a head reads joint windows: what the checkpoint was trained for. ConfigError where the job asks for the
    other.
    """
    trained = checkpoint.require(head).input
    if wanted not in ("auto", trained):
        raise ConfigError(
            f"heads ({head}): `input: {wanted}`, but {checkpoint.path} was trained with `input: {trained}`;"
            " leave it at auto, or choose another model"
        )
    return trained == "joint"


class JointPass:
    """Asks for the windows of a document's mentions, once for all heads of a stage that want the same mentions."""

    def __init__(self, setup: Setup, checkpoint: Checkpoint) -> None:
        self._builder = setup.builder
        self._whole_document = setup.whole_document
        self._hidden = checkpoint.hidden_size
        self._key = f"{checkpoint.pinned} {setup.whole_document}"

    def states(self, document: Document, spans: IntArray) -> Generator[Ask, Answer, JointStates]:
        """Those of the mentions at `spans`, (n, 2), as an earlier head has got them, or of a new pass."""
        found = document.passes.get(self._key)
        if not isinstance(found, JointStates) or not np.array_equal(found.spans, spans):
            found = yield from self._read(document, spans)
            document.passes[self._key] = found
        return found

    def text(self, document: Document, spans: IntArray) -> Generator[Ask, Answer, FloatArray | None]:
        """(hidden,) mean of the states of all words: of the windows of mentions, and of the other sentences by
        themselves. None for a text without a word.
        """
        found = yield from self.states(document, spans)
        windows = self._other_sentences(document, found.read)
        answer = yield from ask(document, Task.JOINT, windows)
        means = np.concatenate([found.words, *answer])
        counts = np.concatenate([found.counts, [len(window.token_ids) - 2 for window in windows]])
        if not counts.any():
            return None
        return (counts @ means.astype(np.float64) / counts.sum()).astype(np.float32)

    def _read(self, document: Document, spans: IntArray) -> Generator[Ask, Answer, JointStates]:
        source, limit = (
            Frames(document, self._builder, self._whole_document),
            self._builder.tokenizer.max_mention_length,
        )
        regions = group_by_sentence(document, spans)
        windows: list[Window] = []
        counts: list[int] = []
        shown: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
        for frame in source.split(regions):
            lengths = frame.tokens.spans[:, 1] - frame.tokens.spans[:, 0]
            document.coverage.drop("clipped_mention", int((lengths > limit).sum()))
            usable = np.flatnonzero(lengths > 0).astype(np.int32)
            for number, part in enumerate(chunks(len(usable))):
                windows.append(self._builder.mention_window(frame.tokens, frame.left, frame.right, usable[part]))
                counts.append(0 if number else len(frame.tokens.ids))
                shown.append(frame.which[usable[part]])
        answer = yield from ask(document, Task.JOINT, windows)
        which = np.concatenate(shown)
        states = np.full((len(spans), self._hidden), np.nan, np.float32)
        if answer:
            states[which] = np.concatenate([rows[:-1] for rows in answer])
        read = np.zeros(len(document.sentences), bool)
        there = np.isin(np.arange(len(spans)), which)
        for region in regions:
            inside = (document.sentences[:, 0] >= region.start) & (document.sentences[:, 1] <= region.end)
            read |= inside & there[region.which].any()
        words = np.array([rows[-1] for rows in answer], np.float32).reshape(-1, self._hidden)
        return JointStates(spans, states, words, np.array(counts, np.int32), read)

    def _other_sentences(self, document: Document, read: NDArray[np.bool_]) -> list[Window]:
        """Windows of the sentences that are not read yet, one each; one over the room is cut where they are full."""
        if not len(document.sentences):
            return []
        room = self._builder.max_tokens - 2
        cuts = list(pairwise(sentence_cuts(document)))
        left = [(document.text[a:b], no_spans()) for (a, b), done in zip(cuts, read, strict=True) if not done]
        parts = [tokens.ids for tokens in self._builder.tokenize_many(left)]
        return [
            self._builder.text_window(ids[start : start + room]) for ids in parts for start in range(0, len(ids), room)
        ]


class JointLayer:
    """What a joint head says, from the states of one pass over the mentions."""

    def __init__(self, head: str, setup: Setup, checkpoint: Checkpoint) -> None:
        from luke_batch.model.files.weights import joint_state  # torch, which a plan must not pay for

        self._pass = JointPass(setup, checkpoint)
        self._state = joint_state(checkpoint, head)

    def logits(self, document: Document, spans: IntArray) -> Generator[Ask, Answer, tuple[NDArray[np.intp], Answer]]:
        """Which of the (n, 2) mentions a window holds, and (labels,) of each of these."""
        found = yield from self._pass.states(document, spans)
        read = np.flatnonzero(found.known)
        return read, list(found.states[read] @ self._state["weight"].T + self._state["bias"])

    def pair_logits(
        self, document: Document, spans: IntArray, pairs: NDArray[np.intp]
    ) -> Generator[Ask, Answer, tuple[NDArray[np.intp], Answer]]:
        """Which of the (m, 2) pairs of mentions, by their numbers in `spans`, have both in windows, and (labels,) of
        each of these.

        The layer over [h_head; h_tail] is two products over the mentions; only what follows it is computed a pair.
        """
        found = yield from self._pass.states(document, spans)
        read = np.flatnonzero(found.known[pairs].all(1))
        state = self._state
        heads = found.states @ state["head.weight"].T
        tails = found.states @ state["tail.weight"].T + state["tail.bias"]
        units = np.maximum(heads[pairs[read, 0]] + tails[pairs[read, 1]], 0)
        return read, list(units @ state["out.weight"].T + state["out.bias"])
