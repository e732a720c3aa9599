"""Relations: `<ent>` around the head, `<ent2>` around the tail, [MASK] and [MASK2] labelled as a pair
(Yamada et al. 2020, section 4.2).
"""

from collections.abc import Sequence

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.config import Proposer, RelationsConfig
from luke_batch.document.state import Document, Relations, no_spans
from luke_batch.heads.base import Annotation, Setup, ask_in_parts
from luke_batch.heads.candidates import as_mentions, candidates
from luke_batch.heads.scores import Labels
from luke_batch.heads.windows.frames import Framer, region_of
from luke_batch.model.engine.engine import Task
from luke_batch.model.inputs.windows import Window


class RelationsHead:
    """`head: relations`."""

    name = "relations"

    def __init__(self, config: RelationsConfig, setup: Setup, labels: Labels) -> None:
        self._config = config
        self._setup = setup
        self._labels = labels
        self._framer = Framer(setup.builder, setup.whole_document)

    def annotate(self, document: Document) -> Annotation:
        """Write the labelled pairs, sorted by (head, tail), the best label of a pair first."""
        given = self._config.pairs == "given"
        proposers: list[Proposer] = ["given"] if given else self._config.spans
        spans = candidates(document, proposers, self._setup.max_words)
        document.merge_mentions(as_mentions(document, spans, proposers))
        pairs = self._pairs(document, spans)
        read: list[int] = []

        def windows(part: slice) -> Sequence[Window]:
            regions = [region_of(document, document.mentions.spans[pair]) for pair in pairs[part]]
            found: list[Window] = []
            for index, frame in enumerate(self._framer.centre(document, regions, markers=4), part.start):
                if frame is not None:
                    found.append(self._setup.builder.pair_window(frame.tokens, frame.left, frame.right))
                    read.append(index)
            return found

        answer = yield from ask_in_parts(document, Task.PAIR, len(pairs), windows)
        document.coverage.drop("unread_pair", len(pairs) - len(read))
        found = [
            (pairs[index], label, score)
            for index, logits in zip(read, answer, strict=True)
            for label, score in self._labels.decode(logits)
        ]
        document.relations = Relations(
            np.array([pair for pair, _, _ in found], np.int32).reshape(-1, 2),
            [label for _, label, _ in found],
            np.array([score for _, _, score in found], np.float32),
        )

    def _pairs(self, document: Document, spans: IntArray) -> IntArray:
        """(n, 2) indices into the document's mentions, sorted; what is left out is counted."""
        if not len(document.sentences):
            return no_spans()
        mentions = document.mentions
        if self._config.pairs == "given":
            pairs = mentions.find(document.given)[document.given_pairs].astype(np.int32)
        else:
            places = mentions.find(spans).astype(np.int32)
            groups = document.sentence_of(spans)
            pairs = np.concatenate(
                [no_spans(), *(ordered_pairs(places[groups == group]) for group in np.unique(groups))]
            )
        pairs, repeated = np.unique(pairs.reshape(-1, 2), axis=0), len(pairs)
        document.coverage.drop("repeated_pair", repeated - len(pairs))
        first, second = mentions.spans[pairs[:, 0]], mentions.spans[pairs[:, 1]]
        gaps = np.maximum(first[:, 0], second[:, 0]) - np.minimum(first[:, 1], second[:, 1])
        document.coverage.drop("overlapping_pair", int((gaps < 0).sum()))
        pairs, gaps = pairs[gaps >= 0], gaps[gaps >= 0]
        if self._config.pairs == "given":
            return pairs
        sentences = document.sentence_of(mentions.spans)[pairs[:, 0]]
        chosen = nearest(gaps, sentences, self._config.max_pairs)
        document.coverage.drop("pair_over_max_pairs", len(pairs) - len(chosen))
        return pairs[chosen]


def ordered_pairs(places: IntArray) -> IntArray:
    """All (a, b) with a != b out of `places`. Shape (n * (n - 1), 2)."""
    heads, tails = np.meshgrid(places, places, indexing="ij")
    pairs = np.stack([heads.ravel(), tails.ravel()], axis=1).astype(np.int32)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def nearest(gaps: IntArray, groups: IntArray, limit: int) -> IntArray:
    """Indices, ascending, of the `limit` smallest gaps of each group; of equal gaps the earlier."""
    order = np.lexsort((np.arange(len(gaps)), gaps, groups))
    sorted_groups = groups[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_groups, sorted_groups)
    return np.sort(order[rank < limit]).astype(np.int32)
