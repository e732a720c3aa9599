"""Links: a [MASK] entity for each mention, and which of its candidate titles it stands for, by the entity
head of LukeForMaskedLM (Yamada et al. 2020, section 3.2; candidates and order as in Yamada et al. 2022).
"""

import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.config import LinksConfig
from luke_batch.document.state import Document
from luke_batch.heads.base import Annotation, Answer, Ask, Setup, ask
from luke_batch.heads.candidates import as_mentions, candidates
from luke_batch.heads.linking import Options, Scale, candidate_ids, settled_next
from luke_batch.heads.titles import Titles
from luke_batch.heads.windows.frames import Frame, Framer, group_by_sentence
from luke_batch.heads.windows.passages import group_by_passage
from luke_batch.model.engine.engine import Task
from luke_batch.model.inputs.windows import Tokens, Window, chunks
from luke_batch.text.names.aliases import AliasTable


@dataclass(slots=True)
class _Board:
    """The mentions of one window on their way to titles."""

    frame: Frame
    """Its spans are these mentions."""
    mentions: NDArray[np.intp]
    """(n,) places in the document's list."""
    options: list[Options]
    candidates: IntArray
    """(n, k) entity ids, padded with -1."""
    entities: IntArray
    """(n,) what the model reads: [MASK], or the entity of a mention that is settled."""
    waiting: NDArray[np.bool_]
    """(n,)"""


class LinksHead:
    """`head: links`."""

    name = "links"

    def __init__(
        self, config: LinksConfig, setup: Setup, scale: Scale, titles: Titles, aliases: AliasTable | None
    ) -> None:
        """`aliases`: None where candidates are given."""
        self._config = config
        self._setup = setup
        self._scale = scale
        self._titles = titles
        self._aliases = aliases
        self._framer = Framer(setup.builder, setup.whole_document)

    def annotate(self, document: Document) -> Annotation:
        """Write title, qid and title_score of every mention that has a candidate to accept."""
        spans = candidates(document, self._config.spans, self._setup.max_words)
        document.merge_mentions(as_mentions(document, spans, self._config.spans))
        document.coverage.spans_proposed += len(spans)
        places = document.mentions.find(spans)
        options = self._options(document, spans)
        known = np.array([index for index, found in enumerate(options) if found is not None], np.intp)
        boards = self._boards(document, spans[known], places[known], [found for found in options if found])
        document.coverage.spans_scored += sum(len(board.mentions) for board in boards)
        document.coverage.drop("mention_without_candidates", len(spans) - len(known))
        document.coverage.drop("unread_mention", len(known) - sum(len(board.mentions) for board in boards))
        yield from self._settle(document, boards)

    def _settle(self, document: Document, boards: Sequence[_Board]) -> Generator[Ask, Answer, None]:
        """Ask until no mention waits; the windows of a document are settled side by side."""
        left = None if self._config.rounds == "all" else self._config.rounds
        open_boards = list(boards)
        while open_boards:
            windows = [self._window(board) for board in open_boards]
            answer = yield from ask(document, Task.LINKS, windows)
            for board, logits in zip(open_boards, answer, strict=True):
                self._settle_some(document, board, logits, left)
            left = None if left is None else left - 1
            open_boards = [board for board in open_boards if board.waiting.any()]

    def _settle_some(self, document: Document, board: _Board, logits: FloatArray, rounds: int | None) -> None:
        found = [
            self._scale.probabilities(row[: len(option.ids)], option.priors)
            for row, option in zip(logits, board.options, strict=True)
        ]
        best = np.array([probabilities.max() for probabilities in found], np.float32)
        for place in settled_next(best, board.waiting, rounds).tolist():
            board.waiting[place] = False
            if not self._scale.accepts(found[place]):
                continue
            option, chosen = board.options[place], int(found[place].argmax())
            board.entities[place] = option.ids[chosen]
            mention = int(board.mentions[place])
            document.mentions.titles[mention] = option.titles[chosen]
            document.mentions.qids[mention] = option.qids[chosen]
            document.mentions.title_scores[mention] = found[place][chosen]

    def _window(self, board: _Board) -> Window:
        frame = board.frame
        return self._setup.builder.entity_window(
            frame.tokens, frame.left, frame.right, board.entities.copy(), board.candidates
        )

    def _boards(
        self, document: Document, spans: IntArray, places: NDArray[np.intp], options: Sequence[Options]
    ) -> list[_Board]:
        """At most 128 mentions a window, as for named entities."""
        builder = self._setup.builder
        if self._setup.whole_document:
            regions = group_by_passage(document, spans, builder)
        else:
            regions = group_by_sentence(document, spans)
        boards: list[_Board] = []
        limit = builder.tokenizer.max_mention_length
        for frame in self._framer.split(document, regions):
            lengths = frame.tokens.spans[:, 1] - frame.tokens.spans[:, 0]
            document.coverage.drop("clipped_mention", int((lengths > limit).sum()))
            usable = np.flatnonzero(lengths > 0)
            for part in chunks(len(usable)):
                chosen = usable[part]
                which = frame.which[chosen]
                own = [options[index] for index in which.tolist()]
                tokens = Tokens(frame.tokens.ids, frame.tokens.spans[chosen])
                masks = np.full(len(which), builder.tokenizer.entity_mask_id, np.int32)
                boards.append(
                    _Board(
                        frame=replace(frame, tokens=tokens, which=which),
                        mentions=places[which],
                        options=own,
                        candidates=candidate_ids(own),
                        entities=masks,
                        waiting=np.ones(len(which), bool),
                    )
                )
        return boards

    def _options(self, document: Document, spans: IntArray) -> list[Options | None]:
        """The candidates of each span that the model knows; None where there is none."""
        if self._aliases is None:
            return self._given(document, spans)
        least = self._setup.proposers.aliases.min_prior
        options: list[Options | None] = []
        for start, end in spans.tolist():
            # All of them: the model may know none of the likeliest.
            found = self._aliases.candidates(document.text[start:end], sys.maxsize)
            count = int((found.priors >= least).sum())  # they descend
            options.append(self._known(document, found.titles[:count], found.qids[:count], found.priors[:count]))
        return options

    def _given(self, document: Document, spans: IntArray) -> list[Options | None]:
        named: dict[tuple[int, int], list[str]] = {}
        for (start, end), titles in zip(document.given.tolist(), document.given_candidates, strict=True):
            named.setdefault((start, end), []).extend(titles or [])
        listed = [named.get((start, end), []) for start, end in spans.tolist()]
        return [self._known(document, titles, [None] * len(titles), None) for titles in listed]

    def _known(
        self, document: Document, titles: list[str], qids: list[str | None], priors: FloatArray | None
    ) -> Options | None:
        """Titles of one entity are one candidate, by the first of them and with the sum of their priors."""
        first: dict[int, int] = {}
        shares: dict[int, float] = {}
        items: dict[int, str | None] = {}
        for place, title in enumerate(titles):
            entity = self._titles.find(title)
            if entity is None:
                document.coverage.drop("candidate_without_entity")
                continue
            first.setdefault(entity, place)
            shares[entity] = 1.0 if priors is None else shares.get(entity, 0.0) + float(priors[place])
            items[entity] = items.get(entity) or qids[place]
        ids = sorted(first, key=lambda entity: -shares[entity])
        kept = ids[: self._config.max_candidates]
        document.coverage.drop("candidate_over_max_candidates", len(ids) - len(kept))
        if not kept:
            return None
        return Options(
            titles=[titles[first[entity]] for entity in kept],
            qids=[items[entity] for entity in kept],
            ids=kept,
            priors=np.array([shares[entity] for entity in kept], np.float32),
        )
