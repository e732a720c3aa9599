"""Vectors from LukeModel: a mention's is the last hidden state of its [MASK] entity, a text's the mean of
its word states.
"""

from collections.abc import Generator

import numpy as np

from luke_batch.arrays import IntArray
from luke_batch.config import EmbeddingsConfig
from luke_batch.document.state import Document, no_spans
from luke_batch.heads.base import Annotation, Answer, Ask, Setup, ask
from luke_batch.heads.candidates import as_mentions, candidates
from luke_batch.heads.frames import Frame, Framer, group_by_sentence, region_of
from luke_batch.heads.sentence_windows import sentence_windows
from luke_batch.model.engine import Task
from luke_batch.model.windows import Window, chunks

_WINDOWS_AT_ONCE = 16
"""Word states of a window weigh up to 2 MB; a long text is read in parts of so many windows."""


class EmbeddingsHead:
    """`head: embeddings`."""

    name = "embeddings"

    def __init__(self, config: EmbeddingsConfig, setup: Setup, dimension: int) -> None:
        self._config = config
        self._setup = setup
        self._builder = setup.builder
        self._dimension = dimension
        self._framer = Framer(setup.builder, setup.whole_document)

    def annotate(self, document: Document) -> Annotation:
        """Write the vectors that `of` asks for."""
        if "mentions" in self._config.of:
            yield from self._embed_mentions(document)
        if "text" in self._config.of:
            yield from self._embed_text(document)

    def _embed_mentions(self, document: Document) -> Generator[Ask, Answer, None]:
        spans = candidates(document, self._config.spans, self._setup.max_words)
        document.merge_mentions(as_mentions(document, spans, self._config.spans))
        document.coverage.spans_proposed += len(spans)
        windows: list[Window] = []
        limit = self._builder.tokenizer.max_mention_length
        embedded: list[IntArray] = [no_spans()]
        for frame in self._frames(document, spans):
            lengths = frame.tokens.spans[:, 1] - frame.tokens.spans[:, 0]
            usable = np.flatnonzero(lengths > 0).astype(np.int32)
            if self._config.joint:
                document.coverage.drop("clipped_mention", int((lengths > limit).sum()))
            for part in chunks(len(usable)):
                windows.append(
                    self._builder.mention_window(frame.tokens, frame.left, frame.right, usable[part])
                )
                embedded.append(spans[frame.which[usable[part]]])
        answer = yield from ask(document, Task.MENTIONS, windows)
        places = document.mentions.find(np.concatenate(embedded))
        document.coverage.spans_scored += len(places)
        document.coverage.drop("mention_without_vector", len(spans) - len(places))
        vectors = np.full((len(document.mentions), self._dimension), np.nan, np.float32)
        if len(places):
            vectors[places] = np.concatenate(answer)
        document.mention_vectors = vectors

    def _frames(self, document: Document, spans: IntArray) -> list[Frame]:
        if self._config.joint:
            return self._framer.split(document, group_by_sentence(document, spans))
        if not len(document.sentences):
            return []
        alone = [region_of(document, spans[i : i + 1]) for i in range(len(spans))]
        frames = self._framer.centre(document, alone, markers=0)
        return [
            Frame(frame.tokens, frame.left, frame.right, np.array([index]))
            for index, frame in enumerate(frames)
            if frame is not None
        ]

    def _embed_text(self, document: Document) -> Generator[Ask, Answer, None]:
        """Each token once: the text is cut at sentences into as few windows as hold it."""
        windows = [self._builder.text_window(ids) for ids in sentence_windows(document, self._builder)]
        total, count = np.zeros(self._dimension, np.float64), 0
        for start in range(0, len(windows), _WINDOWS_AT_ONCE):
            answer = yield from ask(document, Task.TEXT, windows[start : start + _WINDOWS_AT_ONCE])
            for states in answer:
                total += states[1:-1].sum(axis=0, dtype=np.float64)
                count += len(states) - 2
        document.text_vector = (total / count).astype(np.float32) if count else None
