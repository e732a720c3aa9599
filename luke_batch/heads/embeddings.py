"""Vectors from LukeModel: a mention's is the last hidden state of its [MASK] entity, an entity's that of the
title it was linked to, a text's the mean of its word states.

Words and texts are knowledge-enhanced where the model reads the titles of their mentions along with them
(Yamada et al. 2020, section 3.1; the inputs of transformers' LukeModel).
"""

from collections.abc import Generator
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.base.errors import ConfigError
from luke_batch.base.section import listed
from luke_batch.document.state import Document
from luke_batch.heads.frames import Frame, Frames, as_mentions, candidates, group_by_sentence, region_of
from luke_batch.heads.head import Annotation, Answer, Ask, Head, Place, Setup, SpanHeadConfig, ask, ask_each
from luke_batch.heads.joint import JointPass
from luke_batch.heads.sentence_windows import SentenceWindow, sentence_windows
from luke_batch.heads.titles import Titles
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Tokens, Window, chunks
from luke_batch.model.task import Reads, Task

_COLUMNS = {
    "mentions": "mention_embeddings",
    "entities": "entity_embeddings",
    "text": "text_embedding",
    "words": "word_embeddings",
}
"""The column of each kind of vectors."""


class EmbeddingsConfig(SpanHeadConfig):
    """Vectors of mentions, entities, texts and words (LukeModel)."""

    head: Literal["embeddings"] = "embeddings"
    of: Annotated[
        list[Literal["mentions", "entities", "text", "words"]], BeforeValidator(listed), Field(min_length=1)
    ] = ["mentions", "text"]
    """mentions: one vector a mention, from its text alone; entities: one for each mention with a title that
    the model knows, which it reads as input; text: one a document; words: one a word.
    """
    joint: bool = True
    """All mentions of a sentence in one pass; false: one a pass."""
    text_from: Literal["auto", "own", "joint"] = "auto"
    """own: the text vector is read from the text alone; joint: it is the mean of the words in the pass over the
    mentions, which other heads share; auto: what the checkpoint says.
    """
    with_entities: bool = False
    """The model reads the titles of the mentions along with the text: knowledge-enhanced vectors of text and
    words.
    """
    normalized: bool = False
    """Vectors of length 1."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type of the written vectors."""
    title_language: str = "en"
    """Language of titles that name none: `Paris` and `en:Paris` are one entity of the model."""

    @property
    def proposers(self) -> list[str]:
        """See HeadConfig."""
        return self.spans if "mentions" in self.of or "entities" in self.of or self.with_entities else []

    @property
    def needs_words(self) -> bool:
        """See HeadConfig."""
        return "words" in self.of

    @property
    def needs_titles(self) -> bool:
        """See HeadConfig."""
        return self.with_entities or "entities" in self.of

    @property
    def written(self) -> tuple[str, ...]:
        """See HeadConfig."""
        return tuple(column for of, column in _COLUMNS.items() if of in self.of)

    @property
    def vectors(self) -> Literal["float32", "float16"] | None:
        """See HeadConfig."""
        return self.dtype

    def complaint(self, place: Place) -> str | None:
        """See HeadConfig."""
        complaint = super().complaint(place)
        if complaint is not None or not self.needs_titles or any("title" in head.decides for head in place.before):
            return complaint
        if any("title" in head.decides for head in place.after):
            return "it reads the titles of mentions; put it after `links`, which finds them"
        if "mentions" in place.given:
            return None
        return (
            "it reads the titles of mentions, and nothing finds them; put a `links` head before"
            " it, or give mentions with titles (`input.mentions_column`)"
        )


_ENTITIES = Task(Reads.ENTITY_STATES, "embeddings")
_WORDS = Task(Reads.WORD_STATES, "embeddings")

_WINDOWS_AT_ONCE = 16
"""Word states of a window weigh up to 2 MB; a long text is read in parts of so many windows."""

_NONE = np.empty(0, np.int32)


class EmbeddingsHead(Head):
    """`head: embeddings`."""

    settings = EmbeddingsConfig
    version = 2

    def __init__(self, config: EmbeddingsConfig, setup: Setup, checkpoint: Checkpoint) -> None:
        self._joint = JointPass(setup, checkpoint) if _shares(config, checkpoint) else None
        self._text_jointly = _reads_text_jointly(config, checkpoint)
        self._config = config
        self._setup = setup
        self._builder = setup.builder
        self._dimension = checkpoint.hidden_size
        self._titles = Titles.of(setup.builder.tokenizer, config.title_language) if config.needs_titles else None

    @classmethod
    def tasks(cls, config: EmbeddingsConfig, checkpoint: Checkpoint) -> list[Task]:
        """Of entities, of words, or of both at once."""
        wanted = {_ENTITIES: {"mentions", "entities"}, _WORDS: {"text", "words"}}
        joint = [Task.JOINT] if _shares(config, checkpoint) else []
        return [*joint, *(task for task, of in wanted.items() if not of.isdisjoint(config.of))]

    @classmethod
    def check(cls, config: EmbeddingsConfig, checkpoint: Checkpoint) -> None:
        """See Head."""
        if config.text_from == "joint" and not _reads_text_jointly(config, checkpoint):
            raise ConfigError(
                "heads (embeddings): `text_from: joint` needs `of: [mentions, text]`, without words, `with_entities` or"
                f" `joint: false`, and a model with joint heads, which {checkpoint.path} may not be; leave it at auto"
            )

    def annotate(self, document: Document) -> Annotation:
        """Write the vectors that `of` asks for."""
        spans = candidates(document, self._config.proposers, self._setup.max_words)
        document.merge_mentions(as_mentions(document, spans, self._config.proposers))
        if "mentions" in self._config.of:
            document.coverage.spans_proposed += len(spans)
            if self._joint is None:
                masks = np.full(len(spans), self._builder.tokenizer.entity_mask_id, np.int32)
                vectors = yield from self._embed_spans(document, spans, masks)
            else:
                found = yield from self._joint.states(document, spans)
                vectors = np.full((len(document.mentions), self._dimension), np.nan, np.float32)
                vectors[document.mentions.find(spans)] = self._finished(found.states)
            document.mention_vectors = vectors
            missing = np.isnan(vectors[document.mentions.find(spans), 0]).sum()
            document.coverage.spans_scored += len(spans) - int(missing)
            document.coverage.drop("mention_without_vector", int(missing))
        known, entities = self._entities(document, spans)
        if "entities" in self._config.of:
            document.entity_vectors = yield from self._embed_entities(document, known, entities)
        if self._text_jointly and self._joint is not None and not self._setup.whole_document:
            text = yield from self._joint.text(document, spans)
            document.text_vector = None if text is None else self._finished(text[None])[0]
        elif "text" in self._config.of or "words" in self._config.of:
            yield from self._embed_text(document, known, entities)

    def _embed_entities(
        self, document: Document, spans: IntArray, entities: IntArray
    ) -> Generator[Ask, Answer, FloatArray]:
        """`_embed_spans`, which counts what the mentions' pass has not counted already."""
        counted = document.coverage.dropped.copy()
        vectors = yield from self._embed_spans(document, spans, entities)
        if "mentions" in self._config.of:
            document.coverage.dropped = counted
        missing = np.isnan(vectors[document.mentions.find(spans), 0]).sum()
        document.coverage.drop("entity_without_vector", int(missing))
        return vectors

    def _entities(self, document: Document, spans: IntArray) -> tuple[IntArray, IntArray]:
        """Those of `spans` whose titles the model knows, and their (n,) entities."""
        if self._titles is None:
            return spans[:0], _NONE
        titles = [document.mentions.titles[place] for place in document.mentions.find(spans).tolist()]
        ids = [self._titles.find(title) for title in titles]
        known = np.array([entity is not None for entity in ids], bool)
        named = sum(title is not None for title in titles)
        document.coverage.drop("title_without_entity", named - int(known.sum()))
        return spans[known], np.array([entity for entity in ids if entity is not None], np.int32)

    def _embed_spans(
        self, document: Document, spans: IntArray, entities: IntArray
    ) -> Generator[Ask, Answer, FloatArray]:
        """(mentions, dimension) last states of the `entities` at `spans`; NaN for every other mention."""
        windows: list[Window] = []
        embedded: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
        for frame in self._frames(document, spans):
            lengths = frame.tokens.spans[:, 1] - frame.tokens.spans[:, 0]
            usable = np.flatnonzero(lengths > 0)
            if self._config.joint:  # alone they are counted where they are framed
                document.coverage.drop("clipped_mention", self._clipped(frame.tokens))
            for part in chunks(len(usable)):
                which = frame.which[usable[part]]
                tokens = Tokens(frame.tokens.ids, frame.tokens.spans[usable[part]])
                windows.append(self._builder.entity_window(tokens, frame.left, frame.right, entities[which]))
                embedded.append(which)
        answer = yield from ask(document, _ENTITIES, windows)
        vectors = np.full((len(document.mentions), self._dimension), np.nan, np.float32)
        if answer:
            places = document.mentions.find(spans[np.concatenate(embedded)])
            vectors[places] = self._finished(np.concatenate(answer))
        return vectors

    def _frames(self, document: Document, spans: IntArray) -> list[Frame]:
        source = Frames(document, self._builder, self._setup.whole_document)
        if self._config.joint:
            return source.split(group_by_sentence(document, spans))
        if not len(document.sentences):
            return []
        alone = [region_of(document, spans[i : i + 1]) for i in range(len(spans))]
        frames = source.centre(alone, markers=0)
        return [
            Frame(frame.tokens, frame.left, frame.right, np.array([index]))
            for index, frame in enumerate(frames)
            if frame is not None
        ]

    def _embed_text(self, document: Document, spans: IntArray, entities: IntArray) -> Generator[Ask, Answer, None]:
        """Each token once, and the entities beside them where they are to be read."""
        if not self._config.with_entities:
            spans, entities = spans[:0], entities[:0]
        by_word = "words" in self._config.of
        parts = sentence_windows(document, spans, self._builder, placed=by_word)
        read = sum(len(part.entities) for part in parts)
        document.coverage.drop("entity_across_windows", len(spans) - read)
        if not {"mentions", "entities"} & set(self._config.of):  # their passes count it otherwise
            document.coverage.drop("clipped_mention", sum(self._clipped(part.tokens) for part in parts))
        text = _Mean(1, self._dimension)
        words = _Mean(len(document.words) if by_word else 0, self._dimension)

        def windows(part: slice) -> list[Window]:
            return [
                self._builder.entity_window(item.tokens, _NONE, _NONE, entities[item.entities]) for item in parts[part]
            ]

        def take(number: int, states: FloatArray) -> None:
            own = states[1:-1]
            text.add(np.zeros(len(own), np.intp), own)
            if by_word:
                tokens, places = _words_of(parts[number], document.words)
                words.add(places, own[tokens])

        yield from ask_each(document, _WORDS, len(parts), windows, take, _WINDOWS_AT_ONCE)
        if "text" in self._config.of and parts:
            document.text_vector = self._finished(text.vectors())[0]
        if by_word:
            document.word_vectors = self._finished(words.vectors())
            document.coverage.drop("word_without_vector", int(np.isnan(document.word_vectors[:, 0]).sum()))

    def _clipped(self, tokens: Tokens) -> int:
        """How many entities are longer than what counts for their positions."""
        lengths = tokens.spans[:, 1] - tokens.spans[:, 0]
        return int((lengths > self._builder.tokenizer.max_mention_length).sum())

    def _finished(self, vectors: FloatArray) -> FloatArray:
        """(n, dimension) as they are written: of length 1 where that is asked for."""
        if not self._config.normalized:
            return vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)


def _shares(config: EmbeddingsConfig, checkpoint: Checkpoint) -> bool:
    """Whether mention vectors come from the pass that other heads of the checkpoint read."""
    joint = any(facts.input == "joint" for facts in checkpoint.heads.values())
    return joint and config.joint and "mentions" in config.of


def _reads_text_jointly(config: EmbeddingsConfig, checkpoint: Checkpoint) -> bool:
    """Whether the text vector does, too."""
    facts = checkpoint.heads.get("embeddings")
    trained = config.text_from == "joint" or (
        config.text_from == "auto" and facts is not None and facts.input == "joint"
    )
    plain = "text" in config.of and "words" not in config.of and not config.with_entities
    return trained and plain and _shares(config, checkpoint)


class _Mean:
    """Sums of states, and how many each has."""

    def __init__(self, count: int, dimension: int) -> None:
        self._sums = np.zeros((count, dimension), np.float64)
        self._counts = np.zeros(count, np.int64)

    def add(self, places: NDArray[np.intp], states: FloatArray) -> None:
        """(n, dimension) states to the sums at their (n,) places."""
        np.add.at(self._sums, places, states)
        np.add.at(self._counts, places, 1)

    def vectors(self) -> FloatArray:
        """(count, dimension) means; NaN where there was nothing."""
        means = np.full(self._sums.shape, np.nan, np.float32)
        there = self._counts > 0
        means[there] = self._sums[there] / self._counts[there, None]
        return means


def _words_of(window: SentenceWindow, words: IntArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which tokens of a window belong to which words, as pairs: (n,) tokens and (n,) words.

    A token belongs to the word in which it begins; white space to the word after it, as in the input builder.
    A word in which none begins has the token that it lies in.
    """
    characters = window.tokens.characters
    assert characters is not None, "asked for"
    if not len(words) or not len(characters):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    starts, ends = characters.T
    word = np.searchsorted(words[:, 0], starts, side="right") - 1
    tokens = np.flatnonzero((word >= 0) & (starts < words[np.maximum(word, 0), 1]))
    others = np.setdiff1d(np.arange(len(words)), word[tokens])
    around = np.searchsorted(starts, words[others, 0], side="right") - 1
    covered = (around >= 0) & (ends[np.maximum(around, 0)] > words[others, 0])
    return np.concatenate([tokens, around[covered]]), np.concatenate([word[tokens], others[covered]])
