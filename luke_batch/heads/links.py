"""Links: a [MASK] entity for each mention, and which of its candidate titles it stands for, by the entity
head of LukeForMaskedLM (Yamada et al. 2020, section 3.2; candidates as in Yamada et al. 2022).

Local scores are those of one round. In several rounds the surest mentions are settled first and the model
reads their titles in the rounds that follow: the global order of Yamada et al. 2022 ("Global Entity
Disambiguation with BERT", section 3.3), exact where each round settles one mention.
"""

import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.document.state import Document
from luke_batch.heads.frames import Frame, Frames, as_mentions, candidates
from luke_batch.heads.head import Annotation, Answer, Ask, Head, Place, Setup, SpanHeadConfig, ask
from luke_batch.heads.titles import Titles
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Tokens, Window, chunks
from luke_batch.model.task import Reads, Task
from luke_batch.text.names.aliases import load_aliases


class LinksConfig(SpanHeadConfig):
    """Wikipedia titles of mentions, chosen among candidates (LukeForMaskedLM's entity head)."""

    decides = frozenset({"title"})

    head: Literal["links"] = "links"
    candidates: Literal["aliases", "given"] = "aliases"
    """aliases: the titles that the mention's text stands for in the alias table; given: the field
    `candidates` of the given mentions.
    """
    max_candidates: int = Field(default=30, ge=1, le=1000)
    """Titles of a mention that are scored, those with the largest prior."""
    rounds: Literal["all"] | Annotated[int, Field(ge=1)] = 1
    """1: each mention by itself; more: in each round the surest mentions are settled, and the model reads
    their titles in the next ones; all: one mention a round.
    """
    prior_weight: float | None = Field(default=None, ge=0)
    """Weight of the logarithm of a candidate's prior beside the model's score; null: what the checkpoint
    says, else 0.
    """
    threshold: float | None = Field(default=None, ge=0, lt=1)
    """Titles below this probability are not written; null: what the checkpoint says, else 0."""
    title_language: str = "en"
    """Language of titles that name none: `Paris` and `en:Paris` are one entity of the model."""

    @property
    def needs_titles(self) -> bool:
        """See HeadConfig."""
        return True

    @property
    def reads_candidates(self) -> bool:
        """See HeadConfig."""
        return self.candidates == "aliases"

    def complaint(self, place: Place) -> str | None:
        """See HeadConfig."""
        if self.candidates == "given" and "mentions" not in place.given:
            return super().complaint(place) or "`candidates: given` needs `input.mentions_column`"
        return super().complaint(place)


@dataclass(frozen=True, slots=True)
class Options:
    """The candidates of one mention that the model knows; at least one."""

    titles: list[str]
    qids: list[str | None]
    ids: list[int]
    """Their entities."""
    priors: FloatArray
    """(k,) shares of the links with the mention's name; ones where there are none to know."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How logits become probabilities."""

    temperature: float
    prior_weight: float
    nil_score: float | None
    """What "none of them" scores; None: one of them is right."""
    threshold: float
    """Least probability of a title that is written."""

    def probabilities(self, logits: FloatArray, priors: FloatArray) -> FloatArray:
        """(k,) probabilities of the candidates, of which -inf logits have none."""
        scores = (logits + self.prior_weight * np.log(np.maximum(priors, 1e-9))) / self.temperature
        nil = -np.inf if self.nil_score is None else self.nil_score / self.temperature
        top = max(float(scores.max()), nil)
        exponents = np.exp(scores - top)
        return (exponents / (exponents.sum() + np.exp(nil - top))).astype(np.float32)

    def accepts(self, probabilities: FloatArray) -> bool:
        """Whether the best candidate is written: more probable than none of them, and than the threshold."""
        best = float(probabilities.max())
        nil = 1 - float(probabilities.sum()) if self.nil_score is not None else 0.0
        return best >= self.threshold and best > nil


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


class LinksHead(Head):
    """`head: links`."""

    settings = LinksConfig
    version = 1
    task = Task(Reads.CANDIDATES, "links")

    def __init__(self, config: LinksConfig, setup: Setup, checkpoint: Checkpoint) -> None:
        facts, table = checkpoint.require(config.head), setup.proposers.aliases
        self._config = config
        self._setup = setup
        self._scale = Scale(
            temperature=facts.temperature,
            prior_weight=facts.prior_weight or 0.0 if config.prior_weight is None else config.prior_weight,
            nil_score=facts.nil_score,
            threshold=facts.threshold or 0.0 if config.threshold is None else config.threshold,
        )
        self._titles = Titles.of(setup.builder.tokenizer, config.title_language)
        known = config.candidates == "aliases"
        self._aliases = load_aliases(table.path, content_hash=table.content_hash) if known else None

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
            answer = yield from ask(document, self.task, windows)
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
        frames = Frames(document, builder, self._setup.whole_document)
        boards: list[_Board] = []
        limit = builder.tokenizer.max_mention_length
        for frame in frames.split(frames.group(spans)):
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


def candidate_ids(options: Sequence[Options]) -> IntArray:
    """(n, k) entities of the candidates of n mentions, padded with -1."""
    width = max((len(option.ids) for option in options), default=0)
    ids = np.full((len(options), width), -1, np.int32)
    for row, option in enumerate(options):
        ids[row, : len(option.ids)] = option.ids
    return ids


def settled_next(best: FloatArray, waiting: NDArray[np.bool_], rounds: int | None) -> NDArray[np.intp]:
    """Which of the mentions that wait are settled now: the surest, of equals the first.

    Args:
        best: (n,) the probability of each mention's best candidate.
        waiting: (n,) whether a mention is not settled yet; at least one is.
        rounds: how many rounds are left, this one among them; None: as many as mentions.
    """
    places = np.flatnonzero(waiting)
    count = 1 if rounds is None else -(-len(places) // rounds)
    return places[np.argsort(-best[places], kind="stable")[:count]]
