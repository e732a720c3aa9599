"""Relations: `<ent>` around the head, `<ent2>` around the tail, [MASK] and [MASK2] labelled as a pair
(Yamada et al. 2020, section 4.2); or, where the checkpoint was trained so, all mentions of a sentence in one window,
and every pair of them from their states (`joint.py`).
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import ConfigError
from luke_batch.document.state import Document, Relations, no_spans
from luke_batch.heads.consistency import Consistency, Found
from luke_batch.heads.frames import Frames, as_mentions, candidates, region_of
from luke_batch.heads.head import (
    Annotation,
    Answer,
    Ask,
    Head,
    Labels,
    Place,
    Setup,
    SpanHeadConfig,
    ask_in_parts,
    none_index,
)
from luke_batch.heads.joint import Input, JointLayer, is_joint
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.constraints import CONSTRAINTS_FILE
from luke_batch.model.files.facts import PAIR_SCORER
from luke_batch.model.files.fit import joint_names
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Reads, Task


class RelationsConfig(SpanHeadConfig):
    """Relations between mention pairs (LukeForEntityPairClassification)."""

    columns = ("relations",)

    head: Literal["relations"] = "relations"
    input: Input = "auto"
    """marked: a window a pair; joint: one for all mentions of a sentence; auto: what the checkpoint was trained for."""
    pairs: Literal["all", "auto", "given"] = "all"
    """all: ordered pairs inside a sentence; auto: those of them that may have a relation, as the checkpoint's pair
    scorer or its relations.json tells; given: those of `input.relations_column`.
    """
    max_pairs: int = Field(default=64, ge=1)
    """Most ordered pairs of a sentence, nearest first; the rest are counted in coverage."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] | None = None
    """Multi-label: relations with at least this probability are written; auto or null: what the checkpoint says,
    else 0.5.
    """
    consistent: Literal["auto"] | bool = "auto"
    """true: of the relations of a sentence those are written that make sense together, by the checkpoint's
    relations.json; auto: where it brings one.
    """
    multi_label: Literal["auto"] | bool = "auto"
    """auto: what the checkpoint says."""
    none_label: str | None = None
    """Label that means "no relation"; null: what the checkpoint says, else no_relation or the first label."""

    @property
    def proposers(self) -> list[str]:
        """See HeadConfig."""
        return ["given"] if self.pairs == "given" else self.spans

    def complaint(self, place: Place) -> str | None:
        """See HeadConfig."""
        if self.pairs == "given" and not {"relations", "mentions"} <= place.given:
            return "`pairs: given` needs `input.relations_column` and `input.mentions_column`"
        return super().complaint(place)


class RelationsHead(Head):
    """`head: relations`."""

    settings = RelationsConfig
    version = 3
    task = Task(Reads.PAIR, "relations")

    def __init__(self, config: RelationsConfig, setup: Setup, checkpoint: Checkpoint) -> None:
        self._config = config
        self._setup = setup
        self._labels = relation_labels(config, checkpoint)
        joint = is_joint("relations", config.input, checkpoint)
        self._joint = JointLayer("relations", setup, checkpoint) if joint else None
        rules = checkpoint.constraints
        self._rules = None if rules is None else Consistency(self._labels, rules)
        self._is_consistent = rules is not None and config.consistent is not False
        self._scorer = JointLayer(PAIR_SCORER, setup, checkpoint) if _scores_pairs(config, checkpoint) else None
        self._related = Labels.of(checkpoint.heads[PAIR_SCORER], multi=True) if self._scorer else None

    @classmethod
    def tasks(cls, config: RelationsConfig, checkpoint: Checkpoint) -> list[Task]:
        """See Head."""
        if is_joint("relations", config.input, checkpoint):
            return [Task.JOINT]
        return [Task.JOINT, cls.task] if _scores_pairs(config, checkpoint) else [cls.task]

    @classmethod
    def check(cls, config: RelationsConfig, checkpoint: Checkpoint) -> None:
        """See Head."""
        relation_labels(config, checkpoint)
        if is_joint("relations", config.input, checkpoint):
            joint_names(checkpoint, "relations")
        if _scores_pairs(config, checkpoint):
            joint_names(checkpoint, PAIR_SCORER)
        if checkpoint.constraints is not None:
            return
        if config.consistent is True:
            raise ConfigError(
                f"heads (relations): `consistent: true`, but {checkpoint.path} has no {CONSTRAINTS_FILE}, which says"
                " what makes sense; write one (docs/models.md), or leave it at auto"
            )
        if config.pairs == "auto" and PAIR_SCORER not in checkpoint.heads:
            raise ConfigError(
                f"heads (relations): `pairs: auto`, but {checkpoint.path} has neither a pair scorer nor a"
                f" {CONSTRAINTS_FILE}, which say what pairs may have a relation; write one (docs/models.md), or use"
                " `pairs: all`"
            )

    def annotate(self, document: Document) -> Annotation:
        """Write the labelled pairs, sorted by (head, tail), the best label of a pair first."""
        proposers = self._config.proposers
        spans = candidates(document, proposers, self._setup.max_words)
        document.merge_mentions(as_mentions(document, spans, proposers))
        pairs = self._pairs(document, spans)
        if self._config.pairs == "auto":
            kept = yield from self._may_be_related(document, spans, pairs)
            document.coverage.drop("unlikely_pair", int((~kept).sum()))
            pairs = pairs[kept]
        if self._joint is None:
            read, answer = yield from self._marked(document, pairs)
        else:
            numbers = np.searchsorted(document.mentions.find(spans), pairs)
            read, answer = yield from self._joint.pair_logits(document, spans, numbers)
        document.coverage.drop("unread_pair", len(pairs) - len(read))
        pairs = pairs[read]
        found = self._decoded(document, pairs, answer)
        document.relations = Relations(
            pairs[[number for number, _, _ in found]].reshape(-1, 2),
            [label for _, label, _ in found],
            np.array([score for _, _, score in found], np.float32),
        )

    def _decoded(self, document: Document, pairs: IntArray, answer: Answer) -> list[Found]:
        """The relations of the pairs that were read, in their order."""
        if self._rules is not None and self._is_consistent:
            found, lost = self._rules.decode(document, pairs, answer)
            document.coverage.drop("inconsistent_relation", lost)
            return found
        return [
            (number, label, score)
            for number, logits in enumerate(answer)
            for label, score in self._labels.decode(logits)
        ]

    def _may_be_related(
        self, document: Document, spans: IntArray, pairs: IntArray
    ) -> Generator[Ask, Answer, NDArray[np.bool_]]:
        """Which of the pairs may have a relation: by rule, and as the pair scorer says. One that it cannot read may."""
        kept: NDArray[np.bool_] = np.repeat(True, len(pairs))
        if self._rules is not None:
            possible = self._rules.possible(document, pairs)
            some = np.arange(possible.shape[1]) != self._labels.none
            kept = np.logical_or.reduce(possible[:, some], axis=1)
        if self._scorer is not None and self._related is not None and len(pairs):
            numbers = np.searchsorted(document.mentions.find(spans), pairs)
            read, answer = yield from self._scorer.pair_logits(document, spans, numbers)
            if len(read):
                scores = self._related.probabilities(np.stack(answer))[:, 0]
                kept[read] &= scores >= self._related.threshold
        return kept

    def _marked(self, document: Document, pairs: IntArray) -> Generator[Ask, Answer, tuple[NDArray[np.intp], Answer]]:
        """Which pairs could be read, in a window each, and their logits."""
        frames = Frames(document, self._setup.builder, self._setup.whole_document)
        read: list[int] = []

        def windows(part: slice) -> Sequence[Window]:
            regions = [region_of(document, document.mentions.spans[pair]) for pair in pairs[part]]
            found: list[Window] = []
            for index, frame in enumerate(frames.centre(regions, markers=4), part.start):
                if frame is not None:
                    found.append(self._setup.builder.pair_window(frame.tokens, frame.left, frame.right))
                    read.append(index)
            return found

        answer = yield from ask_in_parts(document, self.task, len(pairs), windows)
        return np.array(read, np.intp), answer

    def _pairs(self, document: Document, spans: IntArray) -> IntArray:
        """(n, 2) indices into the document's mentions, sorted; what is left out is counted."""
        if not len(document.sentences):
            return no_spans()
        return _given_pairs(document) if self._config.pairs == "given" else self._nearest_pairs(document, spans)

    def _nearest_pairs(self, document: Document, spans: IntArray) -> IntArray:
        places = document.mentions.find(spans).astype(np.int32)
        groups = document.sentence_of(spans)
        found = [no_spans()]
        for group in np.unique(groups):
            own = places[groups == group]
            pairs, overlapping, over = nearest_pairs(document.mentions.spans[own], self._config.max_pairs)
            document.coverage.drop("overlapping_pair", overlapping)
            document.coverage.drop("pair_over_max_pairs", over)
            found.append(own[pairs])
        return _sorted(np.concatenate(found))


def _given_pairs(document: Document) -> IntArray:
    """Those of the job's column, each once, without overlapping ones."""
    mentions = document.mentions
    every = mentions.find(document.given)[document.given_pairs].astype(np.int32).reshape(-1, 2)
    pairs = np.unique(every, axis=0)
    document.coverage.drop("repeated_pair", len(every) - len(pairs))
    first, second = mentions.spans[pairs[:, 0]], mentions.spans[pairs[:, 1]]
    apart = np.maximum(first[:, 0], second[:, 0]) >= np.minimum(first[:, 1], second[:, 1])
    document.coverage.drop("overlapping_pair", int((~apart).sum()))
    return pairs[apart]


def _scores_pairs(config: RelationsConfig, checkpoint: Checkpoint) -> bool:
    """Whether a pair scorer goes before the passes of marked pairs; those of a joint head cost less than it."""
    return (
        config.pairs == "auto" and PAIR_SCORER in checkpoint.heads and checkpoint.require("relations").input == "marked"
    )


def relation_labels(config: RelationsConfig, checkpoint: Checkpoint) -> Labels:
    """The labels of a checkpoint. ConfigError where `none_label` is not one of them."""
    facts = checkpoint.require(config.head)
    none = none_index(config.head, config.none_label, facts, "no_relation", checkpoint.path)
    threshold = None if config.threshold == "auto" else config.threshold
    labels = Labels.of(facts, multi=config.multi_label, none=-1 if none is None else none, threshold=threshold)
    return replace(labels, none=0) if none is None and not labels.multi else labels


def nearest_pairs(spans: IntArray, limit: int) -> tuple[IntArray, int, int]:
    """The `limit` ordered pairs of `spans` with the smallest gaps, of equal ones those of earlier spans.

    No span has more than `limit` partners built for it, so a list of thousands of names costs as much as it has names.

    Args:
        spans: (n, 2) of one sentence, sorted by (start, -end).
        limit: most pairs.

    Returns:
        (m, 2) indices into `spans`; how many ordered pairs overlap; how many others are left out.
    """
    starts, ends = spans.T
    behind = np.searchsorted(starts, ends)  # the first span that begins where each one has ended
    partners = len(spans) - behind
    apart = 2 * int(partners.sum())
    counts = np.minimum(partners, limit)
    first = np.repeat(np.arange(len(spans)), counts)
    second = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts) + behind[first]
    heads, tails = np.concatenate([first, second]), np.concatenate([second, first])
    gaps = np.tile(starts[second] - ends[first], 2)
    chosen = np.lexsort((tails, heads, gaps))[:limit]
    pairs = np.stack([heads[chosen], tails[chosen]], axis=1).astype(np.int32)
    return pairs, len(spans) * (len(spans) - 1) - apart, apart - len(pairs)


def _sorted(pairs: IntArray) -> IntArray:
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
