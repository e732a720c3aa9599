"""Entity types: `<ent>` markers around one mention, its [MASK] entity labelled (Yamada et al. 2020,
section 4.1); or, where the checkpoint was trained so, all mentions of a sentence in one window (`joint.py`).
"""

from collections.abc import Generator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.document.state import Document
from luke_batch.heads.frames import Frames, as_mentions, candidates, region_of
from luke_batch.heads.head import Annotation, Answer, Ask, Head, Labels, Setup, SpanHeadConfig, ask_in_parts
from luke_batch.heads.joint import Input, JointLayer, is_joint
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.facts import HeadFacts
from luke_batch.model.files.fit import joint_names
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Reads, Task


class TypesConfig(SpanHeadConfig):
    """Entity types of mentions (LukeForEntityClassification)."""

    repeatable = True  # types of mentions unite

    head: Literal["types"] = "types"
    input: Input = "auto"
    """marked: a window a mention; joint: one for all mentions of a sentence; auto: what the checkpoint was trained for.
    """
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Labels with at least this probability are written; null: what the checkpoint says, else 0.5 of several labels,
    and any where they exclude one another.
    """
    multi_label: Literal["auto"] | bool = "auto"
    """auto: what the checkpoint says."""


def _table(facts: HeadFacts) -> dict[str, NDArray[np.bool_]]:
    """Label of a mention -> (labels,) which types go with it; for the labels that any type is told to go with."""
    told = {label for labels in facts.coarse.values() for label in labels}
    return {
        label: np.array([label in facts.coarse.get(name, [label]) for name in facts.labels], bool) for label in told
    }


class TypesHead(Head):
    """`head: types`."""

    settings = TypesConfig
    version = 4
    task = Task(Reads.ENTITY, "types")

    def __init__(self, config: TypesConfig, setup: Setup, checkpoint: Checkpoint) -> None:
        self._config = config
        self._setup = setup
        facts = checkpoint.require(config.head)
        self._labels = Labels.of(facts, multi=config.multi_label, threshold=config.threshold)
        self._least = config.threshold or facts.threshold or 0.0
        self._goes_with = _table(facts)
        joint = is_joint("types", config.input, checkpoint)
        self._joint = JointLayer("types", setup, checkpoint) if joint else None

    @classmethod
    def tasks(cls, config: TypesConfig, checkpoint: Checkpoint) -> list[Task]:
        """See Head."""
        return [Task.JOINT] if is_joint("types", config.input, checkpoint) else [cls.task]

    @classmethod
    def check(cls, config: TypesConfig, checkpoint: Checkpoint) -> None:
        """See Head."""
        if is_joint("types", config.input, checkpoint):
            joint_names(checkpoint, "types")

    def annotate(self, document: Document) -> Annotation:
        """Write the types of every mention, beside those of an earlier head; a mention that cannot be read
        has none (null).
        """
        spans = candidates(document, self._config.spans, self._setup.max_words)
        document.merge_mentions(as_mentions(document, spans, self._config.spans))
        document.coverage.spans_proposed += len(spans)
        typed, answer = yield from (self._marked if self._joint is None else self._joint.logits)(document, spans)
        document.coverage.spans_scored += len(typed)
        document.coverage.drop("untyped_mention", len(spans) - len(typed))
        places = document.mentions.find(spans[typed])
        for place, logits in zip(places.tolist(), answer, strict=True):
            found = self._labels.decode(logits) if self._labels.multi else self._one(document, place, logits)
            labels = {label for label, _ in found}
            earlier = [entry for entry in document.mentions.types[place] or [] if entry[0] not in labels]
            document.mentions.types[place] = sorted([*found, *earlier], key=lambda entry: -entry[1])

    def _one(self, document: Document, place: int, logits: FloatArray) -> list[tuple[str, float]]:
        """The likeliest type, where it is likely enough. One at odds with the mention's label must be surer than that;
        else it is the likeliest of those that go with the label.
        """
        scores = self._labels.probabilities(logits[None])[0]
        best = int(logits.argmax())
        fits = self._goes_with.get(document.mentions.labels[place] or "")
        if fits is not None and not fits[best] and scores[best] <= document.mentions.scores[place]:
            best = int(np.where(fits, logits, -np.inf).argmax())
        if scores[best] < self._least:
            document.coverage.drop("unsure_type")
            return []
        return [(self._labels.names[best], float(scores[best]))]

    def _marked(self, document: Document, spans: IntArray) -> Generator[Ask, Answer, tuple[NDArray[np.intp], Answer]]:
        """Which mentions could be read, in a window each, and their logits."""
        frames = Frames(document, self._setup.builder, self._setup.whole_document)
        typed: list[int] = []

        def windows(part: slice) -> Sequence[Window]:
            regions = [region_of(document, span[None]) for span in spans[part] if len(document.sentences)]
            found: list[Window] = []
            for index, frame in enumerate(frames.centre(regions, markers=2), part.start):
                if frame is not None:
                    found.append(self._setup.builder.typing_window(frame.tokens, frame.left, frame.right))
                    typed.append(index)
            return found

        answer = yield from ask_in_parts(document, self.task, len(spans), windows)
        return np.array(typed, np.intp), answer
