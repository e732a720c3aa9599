"""Entity types: `<ent>` markers around one mention, its [MASK] entity labelled (Yamada et al. 2020,
section 4.1).
"""

import numpy as np

from luke_batch.config import TypesConfig
from luke_batch.document.state import Document
from luke_batch.heads.base import Annotation, ask
from luke_batch.heads.candidates import as_mentions, candidates
from luke_batch.heads.frames import Framer, region_of
from luke_batch.heads.scores import Labels
from luke_batch.model.engine import Task
from luke_batch.model.windows import InputBuilder


class TypesHead:
    """`head: types`."""

    name = "types"

    def __init__(
        self, config: TypesConfig, builder: InputBuilder, labels: Labels, max_words: int, whole_document: bool
    ) -> None:
        self._config = config
        self._builder = builder
        self._labels = labels
        self._max_words = max_words
        self._framer = Framer(builder, whole_document)

    def annotate(self, document: Document) -> Annotation:
        """Write the types of every mention; a mention that cannot be read has none (null)."""
        spans = candidates(document, self._config.spans, self._max_words)
        document.merge_mentions(as_mentions(document, spans))
        document.coverage.spans_proposed += len(spans)
        regions = [
            region_of(document, spans[i : i + 1]) for i in range(len(spans)) if len(document.sentences)
        ]
        frames = self._framer.centre(document, regions, markers=2)
        typed = [index for index, frame in enumerate(frames) if frame is not None]
        windows = [
            self._builder.typing_window(frame.tokens, frame.left, frame.right)
            for frame in frames
            if frame is not None
        ]
        answer = yield from ask(document, Task.ENTITY, windows)
        document.coverage.spans_scored += len(typed)
        document.coverage.drop("untyped_mention", len(spans) - len(typed))
        places = document.mentions.find(spans[np.array(typed, np.intp)])
        for place, logits in zip(places.tolist(), answer, strict=True):
            document.mentions.types[place] = self._labels.decode(logits)
