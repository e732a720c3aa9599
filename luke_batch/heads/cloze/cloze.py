"""Words and entities for the gap of a prompt, scored as in mLAMA.

A candidate gets as many `<mask>` words as it has pieces in the gap, and its word score is the mean of their
log-probabilities (Kassner et al. 2021, "Multilingual LAMA"). Where entities are asked, a [MASK] entity lies
over the masks, and the log-probability of the candidate's entity there is the entity score (Ri et al. 2022,
"mLUKE", section 5).
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.config import ClozeConfig
from luke_batch.document.state import Document, Row
from luke_batch.heads.base import Annotation, Answer, Ask, Setup, ask
from luke_batch.heads.cloze.fillers import Fillers
from luke_batch.heads.cloze.objects import ObjectReader, Objects
from luke_batch.heads.cloze.prompts import prompt_of
from luke_batch.heads.titles import Titles
from luke_batch.model.engine.engine import Task
from luke_batch.model.inputs.windows import Gaps, Window, around_gap, context_sizes


class ClozeHead:
    """`head: cloze`."""

    name = "cloze"

    def __init__(self, config: ClozeConfig, setup: Setup, tables: tuple[int, int]) -> None:
        """`tables`: rows of the checkpoint's word and entity embeddings."""
        self._config = config
        self._builder = setup.builder
        self._words, self._entities = (name in config.of for name in ("words", "entities"))
        tokenizer = setup.builder.tokenizer
        titles = Titles.of(tokenizer, config.title_language) if config.needs_titles else None
        self._objects = ObjectReader(config, setup.builder, titles)
        self._fillers: Fillers | None = None
        if config.is_open:
            words, entities = tables
            self._fillers = Fillers(
                tokenizer,
                config.title_language,
                words if self._words else 0,
                entities if self._entities else 0,
            )

    def annotate(self, document: Document) -> Annotation:
        """Write what fills the gap; null where the document has no prompt."""
        prompt = prompt_of(self._config, document)
        if prompt is None:
            document.coverage.drop("missing_prompt")
        elif self._fillers is not None:
            document.results["cloze"] = yield from self._predict(document, prompt, self._fillers)
        else:
            document.results["cloze"] = yield from self._rank(document, prompt)

    def _predict(
        self, document: Document, prompt: tuple[str, str], fillers: Fillers
    ) -> Generator[Ask, Answer, list[Row]]:
        """The best words, and after them the best entities, of the whole vocabularies."""
        (window,) = self._windows(document, prompt, [1])
        assert window.gaps is not None
        # A word has up to two ids that read alike, with and without a space before it.
        gaps = replace(window.gaps, best=2 * self._config.best, never=fillers.never)
        (found,) = yield from ask(document, Task.CLOZE, [replace(window, gaps=gaps)])
        rows: list[Row] = []
        if self._words:
            rows += self._named(found[0], fillers.words, "word_score")
        if self._entities:
            rows += self._named(found[-1], fillers.entities, "entity_score")
        return rows

    def _named(self, found: FloatArray, names: Mapping[int, str], score: str) -> list[Row]:
        best: dict[str, float] = {}
        for number, value in found.tolist():
            if number >= 0:
                best.setdefault(names[int(number)], value)
        return [_row(text, **{score: value}) for text, value in list(best.items())[: self._config.best]]

    def _rank(self, document: Document, prompt: tuple[str, str]) -> Generator[Ask, Answer, list[Row]]:
        """The best candidates."""
        objects = self._objects.read(document, prompt[0])
        groups = objects.by_length()
        lengths = [len(objects.pieces[group[0]]) for group in groups]
        windows = [
            self._with_candidates(window, objects, group)
            for window, group in zip(self._windows(document, prompt, lengths), groups, strict=True)
        ]
        answer = yield from ask(document, Task.CLOZE, windows)
        words, entities = np.full((2, len(objects.texts)), np.nan)
        for group, found in zip(groups, answer, strict=True):
            if self._words:
                words[group] = found[: len(found) - self._entities].mean(axis=0, dtype=np.float64)
            if self._entities:
                entities[group] = np.where(np.isfinite(found[-1]), found[-1], np.nan)
        scores = words if self._words else entities
        order = np.argsort(-scores, kind="stable")[: self._config.best].tolist()
        return [
            _row(objects.texts[place], _score(float(words[place])), _score(float(entities[place])))
            for place in order
            if not np.isnan(scores[place])
        ]

    def _with_candidates(self, window: Window, objects: Objects, group: NDArray[np.intp]) -> Window:
        assert window.gaps is not None
        rows: list[IntArray] = []
        if self._words:
            rows += list(np.stack([objects.pieces[place] for place in group.tolist()], axis=1))
        if self._entities:
            rows.append(objects.entities[group])
        return replace(window, gaps=replace(window.gaps, candidates=np.stack(rows)))

    def _windows(self, document: Document, prompt: tuple[str, str], lengths: Sequence[int]) -> list[Window]:
        """A window for each number of masks. All have the same surroundings: those that fit beside the
        longest, cut around the gap.
        """
        if not lengths:
            return []
        left, right = around_gap(self._builder, *prompt)
        sizes = context_sizes(len(left), max(lengths), len(right), self._builder.max_tokens - 2)
        document.coverage.drop("cut_prompt", sizes != (len(left), len(right)))
        left, right = left[len(left) - sizes[0] :], right[: sizes[1]]
        windows = [self._builder.masked_window(left, length, right, entity=self._entities) for length in lengths]
        return windows if self._words else [_without_words(window) for window in windows]


def _without_words(window: Window) -> Window:
    """The same window, of which the entity alone is asked."""
    return replace(window, gaps=Gaps(np.empty(0, np.int32)))


def _row(text: str, word_score: float | None = None, entity_score: float | None = None) -> Row:
    return {"text": text, "word_score": word_score, "entity_score": entity_score}


def _score(value: float) -> float | None:
    return None if np.isnan(value) else value
