"""A head, a proposer and a column that somebody else might bring: each whole in this file."""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from luke_batch.base.arrays import IntArray
from luke_batch.base.section import Section
from luke_batch.document.state import Document
from luke_batch.heads.candidates import as_mentions, candidates
from luke_batch.heads.frames import Frames, group_by_sentence
from luke_batch.heads.head import Annotation, Head, Setup, SpanHeadConfig, ask
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Reads, Task
from luke_batch.text.proposer import Proposer


class CapitalsConfig(Section):
    """The settings of `spans: capitals`, below `proposers.capitals`."""

    letters: Annotated[int, Field(ge=1)] = 1
    """Least number of letters of a word."""


class CapitalsProposer(Proposer):
    """Words that begin with a capital letter."""

    interface = 1
    name = "capitals"
    section = "capitals"
    settings = CapitalsConfig
    version = 1

    def __init__(self, settings: CapitalsConfig) -> None:
        self._letters = settings.letters

    def find(self, text: str, words: IntArray) -> IntArray:
        """See Proposer."""
        long = [(a, b) for a, b in words.tolist() if text[a].isupper() and b - a >= self._letters]
        return np.array(long, np.int32).reshape(-1, 2)


class LoudnessConfig(SpanHeadConfig):
    """The settings of `head: loudness`."""

    head: Literal["loudness"] = "loudness"
    columns = ("loudness",)
    digits: int = 3
    """Of the numbers that are written."""


class LoudnessHead(Head):
    """How long the vector of each mention is: a column of its own, which the contract does not know."""

    interface = 1
    settings = LoudnessConfig
    version = 1
    task = Task(Reads.ENTITY_STATES, "embeddings")
    contract: ClassVar = {"loudness": {"list": {"struct": {"text": "string", "length": "float32"}}}}

    def __init__(self, config: LoudnessConfig, setup: Setup, checkpoint: Checkpoint) -> None:  # noqa: ARG002 - as heads have it
        self._config = config
        self._setup = setup

    @classmethod
    def require(cls, config: Any, checkpoint: Checkpoint) -> None:
        """Every checkpoint has vectors."""

    @classmethod
    def check(cls, config: Any, checkpoint: Checkpoint) -> None:
        """There are no labels."""

    def annotate(self, document: Document) -> Annotation:
        """One window a sentence."""
        spans = candidates(document, self._config.spans, self._setup.max_words)
        document.merge_mentions(as_mentions(document, spans, self._config.spans))
        frames = Frames(document, self._setup.builder, whole_document=False)
        nothing = np.empty(0, np.int32)
        parts = frames.split(group_by_sentence(document, spans))
        windows: list[Window] = [self._setup.builder.mention_window(part.tokens, nothing, nothing) for part in parts]
        answer = yield from ask(document, self.task, windows)
        lengths = {
            int(place): round(float(np.linalg.norm(vector)), self._config.digits)
            for part, vectors in zip(parts, answer, strict=True)
            for place, vector in zip(part.which, vectors, strict=True)
        }
        document.results["loudness"] = [
            {"text": document.text[start:end], "length": lengths[place]}
            for place, (start, end) in enumerate(spans.tolist())
        ]
