"""Which spans a head looks at: the union of its proposers, without exact duplicates."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.document.state import Document, Mentions, no_spans
from luke_batch.text.spans import all_spans, auto_spans

ALWAYS_KEPT = ("given", "previous")
"""Mentions of these proposers exist whatever a head thinks of them."""


def candidates(document: Document, proposers: Sequence[str], max_words: int) -> IntArray:
    """Spans of all `proposers`, sorted by (start, -end), each once. Shape (n, 2)."""
    found = [_propose(document, proposer, max_words) for proposer in proposers]
    return _sorted(np.concatenate([no_spans(), *found]))


def always_kept(document: Document, proposers: Sequence[str]) -> IntArray:
    """The spans among `candidates` that no head may drop. Shape (n, 2)."""
    found = [_propose(document, proposer, 0) for proposer in proposers if proposer in ALWAYS_KEPT]
    return _sorted(np.concatenate([no_spans(), *found]))


def as_mentions(document: Document, spans: IntArray, proposers: Sequence[str]) -> Mentions:
    """`spans` as mentions without scores; those that the `given` proposer brings bear the label and title
    they came with.
    """
    mentions = Mentions.unlabelled(spans)
    if "given" in proposers:
        places = mentions.find(document.given).tolist()
        for label, title, place in zip(document.given_labels, document.given_titles, places, strict=True):
            mentions.labels[place] = label or mentions.labels[place]
            mentions.titles[place] = title or mentions.titles[place]
    return mentions


def is_among(spans: IntArray, others: IntArray) -> NDArray[np.bool_]:
    """For each span whether it is one of `others` (sorted as `candidates` does). Shape (len(spans),)."""
    return Mentions.unlabelled(others).find(spans) >= 0


def _sorted(spans: IntArray) -> IntArray:
    unique = np.unique(spans, axis=0)
    return unique[np.lexsort((-unique[:, 1], unique[:, 0]))]


def _propose(document: Document, proposer: str, max_words: int) -> IntArray:
    match proposer:
        case "all":
            return all_spans(document.words, document.sentences, max_words)
        case "auto":
            return auto_spans(document.text, document.words, document.sentences, max_words)
        case "given":
            return document.given
        case "previous":
            return document.mentions.spans
        case _:
            return document.found.get(proposer, no_spans())
