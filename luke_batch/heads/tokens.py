"""Labels of words, joined to spans: transformers' LukeForTokenClassification, read at the first token of each
word.
"""

import re
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.base.errors import ConfigError
from luke_batch.document.state import Document, Row
from luke_batch.heads.head import Annotation, Head, HeadConfig, Labels, Setup, ask_each, none_index
from luke_batch.heads.placed_text import PlacedText, best_windows, stride_windows
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Reads, Task


class TokensConfig(HeadConfig):
    """Labels of words, joined to spans (LukeForTokenClassification)."""

    columns = ("tokens",)

    head: Literal["tokens"] = "tokens"
    scheme: Literal["auto", "iob", "plain", "words"] = "auto"
    """iob: labels begin with B- or I- (or E-, S-, L-, U-); plain: neighbouring words of one label are one
    span; words: each word is one, as for parts of speech; auto: iob where all labels but `none_label` are so,
    else plain.
    """
    none_label: str | None = None
    """Label that means "nothing"; null: what the checkpoint says, else O; where there is none, every label is
    written.
    """
    stride: int = Field(default=128, ge=0, le=256)
    """Tokens that neighbouring windows of a long text share; each word is read where it has most context."""

    @property
    def needs_words(self) -> bool:
        """See HeadConfig."""
        return True


Scheme = Literal["iob", "plain", "words"]

_TAG = re.compile(r"[BIESLU]-.+", re.DOTALL)

_WINDOWS_AT_ONCE = 64
"""Logits of all tokens of a window weigh up to 0.4 MB where there are 200 labels."""


@dataclass(frozen=True, slots=True)
class Tags:
    """What each label says about spans."""

    names: tuple[str, ...]
    """The label of the span."""
    types: IntArray
    """(labels,) which labels go on with one another; -1 for the label that means nothing."""
    begins: NDArray[np.bool_]
    """(labels,) a span begins with it."""
    ends: NDArray[np.bool_]
    """(labels,) a span ends with it."""

    @classmethod
    def of(cls, labels: Labels, scheme: Scheme) -> Self:
        """iob: of the schemes IOB, IOB2, BIOES and BILOU, a label of which is a letter, `-` and a type."""
        prefixes = ["" if scheme != "iob" else name[0] for name in labels.names]
        names = tuple(name if scheme != "iob" else name[2:] for name in labels.names)
        order = {name: number for number, name in enumerate(dict.fromkeys(names))}
        types = np.array([order[name] for name in names], np.int32)
        if labels.none >= 0:
            types[labels.none] = -1
        alone = scheme == "words"
        return cls(
            names,
            types,
            np.array([alone or prefix in ("B", "S", "U") for prefix in prefixes], bool),
            np.array([alone or prefix in ("E", "L", "S", "U") for prefix in prefixes], bool),
        )


class TokensHead(Head):
    """`head: tokens`."""

    settings = TokensConfig
    version = 1
    task = Task(Reads.WORDS, "tokens")

    def __init__(self, config: TokensConfig, setup: Setup, checkpoint: Checkpoint) -> None:
        self._stride = config.stride
        self._builder = setup.builder
        self._labels = token_labels(config, checkpoint)
        self._tags = Tags.of(self._labels, scheme_of(config, self._labels, checkpoint.path))

    @classmethod
    def check(cls, config: TokensConfig, checkpoint: Checkpoint) -> None:
        """See Head; also where `scheme` does not fit the labels."""
        scheme_of(config, token_labels(config, checkpoint), checkpoint.path)

    def annotate(self, document: Document) -> Annotation:
        """Write the spans of labelled words. Each word is read once, in the window where it has most
        context.
        """
        placed = PlacedText.of(self._builder.tokenizer, document.text)
        first = placed.first_tokens(document.words)
        words, first = document.words[first >= 0], first[first >= 0]
        parts = stride_windows(len(placed.ids), self._builder.max_tokens - 2, self._stride)
        bounds = np.searchsorted(best_windows(parts)[first], np.arange(len(parts) + 1))
        labels, scores = np.zeros(len(words), np.intp), np.zeros(len(words), np.float32)

        def windows(part: slice) -> list[Window]:
            return [self._builder.text_window(placed.ids[window]) for window in parts[part]]

        def take(number: int, logits: FloatArray) -> None:
            own = slice(bounds[number], bounds[number + 1])
            found = logits[1 + first[own] - parts[number].start]  # the window's first token is <s>
            labels[own] = found.argmax(axis=1)
            scores[own] = self._labels.probabilities(found)[np.arange(len(found)), labels[own]]

        if len(words):
            yield from ask_each(document, self.task, len(parts), windows, take, _WINDOWS_AT_ONCE)
        document.coverage.spans_proposed += len(document.words)
        document.coverage.spans_scored += len(words)
        document.coverage.drop("no_token", len(document.words) - len(words))
        document.results["tokens"] = join(document.text, words, labels, scores, self._tags)


def token_labels(config: TokensConfig, checkpoint: Checkpoint) -> Labels:
    """The labels of a checkpoint. ConfigError where `none_label` is not one of them."""
    facts = checkpoint.require(config.head)
    none = none_index(config.head, config.none_label, facts, "O", checkpoint.path)
    return Labels.of(facts, none=-1 if none is None else none)


def scheme_of(config: TokensConfig, labels: Labels, path: str) -> Scheme:
    """How the labels of words make spans. ConfigError where `iob` is asked for and a label is not so."""
    plain = [name for n, name in enumerate(labels.names) if n != labels.none and not _TAG.fullmatch(name)]
    if config.scheme == "iob" and plain:
        raise ConfigError(
            f"heads ({config.head}): {path} has the label {plain[0]!r}, which is no tag such as B-PER;"
            " use `scheme: plain`, or name it as `none_label`"
        )
    if config.scheme != "auto":
        return config.scheme
    return "plain" if plain else "iob"


def join(text: str, words: IntArray, labels: NDArray[np.intp], scores: FloatArray, tags: Tags) -> list[Row]:
    """The spans of (n, 2) labelled words with the mean of their scores.

    A word goes on with the span of the word before it where both have one type, and neither does the word
    begin nor the other one end a span. A label of its type's inside without a beginning begins one.
    """
    if not len(words):
        return []
    types = tags.types[labels]
    new = np.ones(len(words), bool)
    new[1:] = (types[1:] != types[:-1]) | tags.begins[labels[1:]] | tags.ends[labels[:-1]]
    firsts = np.flatnonzero(new)
    lasts = np.append(firsts[1:], len(words)) - 1
    means = np.add.reduceat(scores.astype(np.float64), firsts) / (lasts - firsts + 1)
    rows: list[Row] = []
    for number in np.flatnonzero(types[firsts] >= 0).tolist():
        start, end = int(words[firsts[number], 0]), int(words[lasts[number], 1])
        label = tags.names[labels[firsts[number]]]
        rows.append(
            {
                "start": start,
                "end": end,
                "text": text[start:end],
                "label": label,
                "score": float(means[number]),
            }
        )
    return rows
