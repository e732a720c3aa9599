"""Entity types: `<ent>` markers around one mention, its [MASK] entity labelled (Yamada et al. 2020,
section 4.1).
"""

from collections.abc import Sequence

import numpy as np

from luke_batch.config import TypesConfig
from luke_batch.document.state import Document
from luke_batch.heads.base import Annotation, Setup, ask_in_parts
from luke_batch.heads.candidates import as_mentions, candidates
from luke_batch.heads.scores import Labels
from luke_batch.heads.windows.frames import Framer, region_of
from luke_batch.model.engine.engine import Task
from luke_batch.model.inputs.windows import Window


class TypesHead:
    """`head: types`."""

    name = "types"

    def __init__(self, config: TypesConfig, setup: Setup, labels: Labels) -> None:
        self._config = config
        self._setup = setup
        self._labels = labels
        self._framer = Framer(setup.builder, setup.whole_document)

    def annotate(self, document: Document) -> Annotation:
        """Write the types of every mention, beside those of an earlier head; a mention that cannot be read
        has none (null).
        """
        spans = candidates(document, self._config.spans, self._setup.max_words)
        document.merge_mentions(as_mentions(document, spans, self._config.spans))
        document.coverage.spans_proposed += len(spans)
        typed: list[int] = []

        def windows(part: slice) -> Sequence[Window]:
            regions = [region_of(document, span[None]) for span in spans[part] if len(document.sentences)]
            found: list[Window] = []
            for index, frame in enumerate(self._framer.centre(document, regions, markers=2), part.start):
                if frame is not None:
                    found.append(self._setup.builder.typing_window(frame.tokens, frame.left, frame.right))
                    typed.append(index)
            return found

        answer = yield from ask_in_parts(document, Task.ENTITY, len(spans), windows)
        document.coverage.spans_scored += len(typed)
        document.coverage.drop("untyped_mention", len(spans) - len(typed))
        places = document.mentions.find(spans[np.array(typed, np.intp)])
        for place, logits in zip(places.tolist(), answer, strict=True):
            found = self._labels.decode(logits)
            labels = {label for label, _ in found}
            earlier = [entry for entry in document.mentions.types[place] or [] if entry[0] not in labels]
            document.mentions.types[place] = sorted([*found, *earlier], key=lambda entry: -entry[1])
