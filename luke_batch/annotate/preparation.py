"""The text stages: sentences, words, gazetteer names and given mentions of each document. No model."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pyarrow as pa

from luke_batch.base import meters
from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import DocumentError
from luke_batch.config import JobConfig
from luke_batch.document.columns import write_documents
from luke_batch.document.source import source_column, text_errors, texts_of
from luke_batch.document.state import Document, Failure, no_spans
from luke_batch.text.proposer import Proposer
from luke_batch.text.proposers import known_proposers
from luke_batch.text.segmenter import sentences
from luke_batch.text.words import words

_NOT_OURS = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""Native libraries panic with a BaseException; only these ask the process to stop."""

_Row = Mapping[str, object]


class Preparation:
    """Segments texts and proposes the spans that need no model."""

    def __init__(self, config: JobConfig) -> None:
        self._config = config
        decided = frozenset[str]().union(*(head.decides for head in config.heads))
        self._keeps_labels, self._keeps_titles = "label" not in decided, "title" not in decided
        self._proposers: dict[str, Proposer] = {}
        for name, proposer in known_proposers().items():
            settings = config.proposers.of(proposer)
            if name in config.span_sources and settings is not None:
                self._proposers[name] = proposer(settings)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Add sentences and the internal columns; a document that cannot be read carries its failure."""
        source = _Source(table, self._config)
        documents = [self._prepare(source, row) for row in range(table.num_rows)]
        return write_documents(table, documents, ["sentences"], None)

    def _prepare(self, source: "_Source", row: int) -> Document:
        stage = "read"
        meters.beat()
        try:
            text, language = source.text(row), source.language(row)
            stage = "segment"
            with meters.spending(stage):
                cut = sentences(text, language, self._config.segmenter.max_characters)
                document = Document(text=text, sentences=cut)
            meters.count("sentences", len(document.sentences))
            stage = "propose"
            with meters.spending(stage):
                self._propose(document, language)
                source.set_given(document, row)
            nothing: list[str | None] = [None] * len(document.given)
            document.given_labels = document.given_labels if self._keeps_labels else nothing
            document.given_titles = document.given_titles if self._keeps_titles else nothing
            source.check_columns(row)
            return document
        except _NOT_OURS:
            raise
        except BaseException as error:
            nothing_found = {name: no_spans() for name in self._proposers}
            return Document(text="", sentences=no_spans(), found=nothing_found, failure=Failure.of(error, stage))

    def _propose(self, document: Document, language: str | None) -> None:
        """Words, and the spans that proposers find."""
        if self._config.needs_words:
            document.words = words(document.text, language)
        for name, proposer in self._proposers.items():
            document.found[name] = proposer.find(document.text, document.words)


class _Source:
    """The input columns of a table by their role."""

    def __init__(self, table: pa.Table, config: JobConfig) -> None:
        columns = config.input
        text = source_column(table, columns.text_column)
        self._texts, self._broken = texts_of(text), text_errors(text)
        language = columns.lang_column
        self._languages = None if language is None else texts_of(source_column(table, language))
        self._mentions = _column(table, columns.mentions_column)
        self._relations = _column(table, columns.relations_column)
        names = {column.name for column in config.source_columns.values()}
        self._read_by_heads = {name: text_errors(source_column(table, name)) for name in sorted(names)}

    def text(self, row: int) -> str:
        """The text, "" for null. DocumentError where it is not UTF-8."""
        if row in self._broken:
            raise DocumentError(self._broken[row], stage="read")
        return self._texts[row] or ""

    def language(self, row: int) -> str | None:
        return None if self._languages is None else self._languages[row]

    def set_given(self, document: Document, row: int) -> None:
        """Given mentions and pairs of a row; DocumentError where one is not inside the text or the list."""
        if self._mentions is None:
            return
        mentions = _rows(self._mentions, row)
        document.given = _spans(mentions, len(document.text))
        document.given_labels = [_text(mention, "label") for mention in mentions]
        document.given_titles = [_text(mention, "title") for mention in mentions]
        document.given_candidates = [_texts(mention, "candidates") for mention in mentions]
        if self._relations is not None:
            document.given_pairs = _pairs(_rows(self._relations, row), len(mentions))

    def check_columns(self, row: int) -> None:
        """DocumentError where a text that a head reads is not UTF-8."""
        for name, errors in self._read_by_heads.items():
            if row in errors:
                raise DocumentError(f"column {name}: {errors[row]}", stage="read")


def _column(table: pa.Table, name: str | None) -> pa.ChunkedArray | None:
    return None if name is None else source_column(table, name)


def _rows(column: pa.ChunkedArray, row: int) -> list[_Row]:
    """The structs of one row. Not of the whole column at once: a label that is not UTF-8 makes it raise."""
    return cast("list[_Row] | None", column[row].as_py()) or []


def _spans(mentions: Sequence[_Row], length: int) -> IntArray:
    """(n, 2) offsets of given mentions in a text of `length` characters."""
    spans = _integers(mentions, "start", "end", "mention")
    for start, end in spans:
        if start >= end:
            raise DocumentError(f"given mention [{start}, {end}) is reversed or empty", stage="propose")
        if start < 0 or end > length:
            raise DocumentError(
                f"given mention [{start}, {end}) is outside of the text of {length} characters",
                stage="propose",
            )
    return np.array(spans, np.int32).reshape(-1, 2)


def _pairs(relations: Sequence[_Row], mentions: int) -> IntArray:
    """(n, 2) indices of given pairs into a list of `mentions` given mentions."""
    pairs = _integers(relations, "head", "tail", "relation")
    for head, tail in pairs:
        if not (0 <= head < mentions and 0 <= tail < mentions):
            raise DocumentError(
                f"given relation ({head}, {tail}) names a mention that is not there: there are {mentions}",
                stage="propose",
            )
    return np.array(pairs, np.int32).reshape(-1, 2)


def _integers(rows: Sequence[_Row | None], first: str, second: str, what: str) -> list[tuple[int, int]]:
    numbers: list[tuple[int, int]] = []
    for row in rows:
        values = (None, None) if row is None else (row[first], row[second])
        if not (isinstance(values[0], int) and isinstance(values[1], int)):
            raise DocumentError(f"given {what} without {first} or {second}: {row}", stage="propose")
        numbers.append((values[0], values[1]))
    return numbers


def _text(mention: _Row, member: str) -> str | None:
    value = mention.get(member)
    return value if isinstance(value, str) else None


def _texts(mention: _Row, member: str) -> list[str] | None:
    value = mention.get(member)
    if not isinstance(value, list):
        return None
    return [item for item in cast("list[object]", value) if isinstance(item, str)]
