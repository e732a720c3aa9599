"""What a head is: settings, what it needs and writes, and a coroutine over one document that asks for forward passes
and is sent their outputs.

A head never sees a batch. The stage (`run.py`) advances the heads of many documents side by side and hands
their windows to the engine together, so a head may ask several times (a long text in parts, linking in
rounds) without costing small batches.

`Labels` are what a classifying head can say, and the calibrated probabilities of its logits.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field

from luke_batch.base import meters
from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import ConfigError
from luke_batch.base.section import Section, listed
from luke_batch.document.columns import Codec
from luke_batch.document.state import Document
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.facts import HeadFacts
from luke_batch.model.inputs.windows import InputBuilder, Window
from luke_batch.model.settings import DEFAULT_MODEL
from luke_batch.model.task import Task
from luke_batch.text.proposers import ProposerConfig, check_proposer


@dataclass(frozen=True, slots=True)
class Labels:
    """What a head can say, and how its raw logits become probabilities."""

    names: tuple[str, ...]
    none: int
    """Index of the label that is not an output; -1 where every label is one."""
    multi: bool
    """Several labels at once (sigmoid), or exactly one (softmax)."""
    temperature: float = 1.0
    threshold: float = 0.5
    """Least probability of a label that is written, where several may be."""
    offsets: tuple[float, ...] = ()
    """Added to the logits of each label before the division, where several may hold; empty: nothing."""

    @classmethod
    def of(
        cls,
        facts: HeadFacts,
        *,
        multi: bool | Literal["auto"] = False,
        none: int = -1,
        threshold: float | None = None,
    ) -> Self:
        """Those of a checkpoint's head; settings of the job go before what the checkpoint says."""
        several = bool(facts.multi_label) if multi == "auto" else multi
        return cls(
            names=facts.labels,
            none=none,
            multi=several,
            temperature=facts.temperature,
            threshold=threshold or facts.threshold or 0.5,
            offsets=facts.offsets if several else (),
        )

    def probabilities(self, logits: FloatArray) -> FloatArray:
        """(n, labels) calibrated probabilities; -inf logits have none."""
        if self.multi and self.offsets:
            logits = logits + np.array(self.offsets, np.float32)
        scaled = logits / np.float32(self.temperature)
        if self.multi:
            return (0.5 * (1 + np.tanh(scaled / 2))).astype(np.float32)  # a sigmoid that cannot overflow
        exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return (exponents / exponents.sum(axis=-1, keepdims=True)).astype(np.float32)

    def decode(self, logits: FloatArray) -> list[tuple[str, float]]:
        """The labels of one (labels,) row of logits with their probabilities, best first; may be none.

        multi: every label at or above the threshold. Else the label of the largest raw logit, unless that
            is `none`.
        """
        probabilities = self.probabilities(logits[None])[0]
        chosen = np.flatnonzero(probabilities >= self.threshold) if self.multi else np.array([logits.argmax()])
        chosen = chosen[chosen != self.none]
        chosen = chosen[np.argsort(-probabilities[chosen], kind="stable")]
        return [(self.names[index], float(probabilities[index])) for index in chosen.tolist()]


def none_index(head: str, named: str | None, facts: HeadFacts, usual: str, path: str) -> int | None:
    """Which label means "nothing": the one that the job names, else the checkpoint, else the `usual` one; None where
    the checkpoint has no such label. ConfigError where a name is none of its labels.
    """
    name = named or facts.none_label
    if name is None:
        return facts.labels.index(usual) if usual in facts.labels else None
    if name not in facts.labels:
        shown = ", ".join(facts.labels[:8])
        raise ConfigError(f"heads ({head}): {path} has no label {name!r} for `none_label`; it has {shown}")
    return facts.labels.index(name)


_ITEMS_AT_ONCE = 512
"""Mentions or pairs of a document whose windows are built together: a few full batches."""

Proposers = Annotated[
    list[Annotated[str, AfterValidator(check_proposer)]], BeforeValidator(listed), Field(min_length=1)
]


class SourceColumn(NamedTuple):
    """A column of INPUT that a head reads."""

    setting: str
    """Key of the head's configuration that names it."""
    name: str
    is_list: bool | None
    """list<text> instead of text; None: either."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a head stands in a job: what is there when its turn comes."""

    given: frozenset[str]
    """Of `mentions`, `relations` and `gazetteer`, those that the job configures."""
    before: Sequence["HeadConfig"]
    after: Sequence["HeadConfig"]


class HeadConfig(Section):
    """Settings that every head has. A head's own have a field `head`, whose only value is its name."""

    model: str = DEFAULT_MODEL
    """A name in `models`, or directly `embedded`, a hub id, a folder or `s3://…`."""

    repeatable: ClassVar[bool] = False
    """Whether a job may have the head twice: what both write is united."""
    decides: ClassVar[frozenset[str]] = frozenset()
    """Fields of given mentions (label, title) that are not kept where a job has this head."""
    columns: ClassVar[tuple[str, ...]] = ()
    """The column of the contract that the head writes, beside mentions and coverage."""

    if TYPE_CHECKING:
        head: Any
        """The head's name."""

    @property
    def written(self) -> tuple[str, ...]:
        """The columns of the contract that the head writes with these settings."""
        return self.columns

    @property
    def vectors(self) -> Literal["float32", "float16"] | None:
        """The type of the values of the vectors that it writes; None: it writes none."""
        return None

    @property
    def proposers(self) -> list[str]:
        """Where the spans come from that the head looks at; none for a head without spans."""
        return []

    @property
    def needs_words(self) -> bool:
        """The head looks at the words of the text."""
        return False

    @property
    def needs_titles(self) -> bool:
        """The head looks up titles among the model's entities."""
        return False

    @property
    def reads_candidates(self) -> bool:
        """The head chooses among the titles that the alias table has for a name."""
        return False

    @property
    def uses_aliases(self) -> bool:
        """The head looks at the alias table."""
        return self.reads_candidates or "alias" in self.proposers

    @property
    def predicts(self) -> Collection[str]:
        """Of `words` and `entities`, those whose whole vocabularies the head predicts."""
        return ()

    @property
    def source_columns(self) -> list[SourceColumn]:
        """What the head reads beside the text."""
        return []

    def complaint(self, place: Place) -> str | None:
        """Why the head cannot stand there; None where it can."""
        if "previous" in self.proposers and not any(head.proposers for head in place.before):
            return (
                "`spans: previous` has no head before it that finds mentions;"
                " put `ner` before it, or use `spans: given`, `gazetteer`, `alias` or `auto`"
            )
        if "gazetteer" in self.proposers and "gazetteer" not in place.given:
            return "`spans: gazetteer` needs `proposers.gazetteer.path`"
        if "given" in self.proposers and "mentions" not in place.given:
            return "`spans: given` needs `input.mentions_column`"
        return None


class SpanHeadConfig(HeadConfig):
    """Settings of a head that looks at spans."""

    context: Literal["none", "document"] | None = None
    """none: the sentence alone; document: the window is filled with neighbouring text; null: what the
    checkpoint asks for.
    """
    spans: Proposers = ["previous"]
    """Where the mentions come from."""

    @property
    def proposers(self) -> list[str]:
        """See HeadConfig."""
        return self.spans


@dataclass(frozen=True, slots=True)
class Ask:
    """Forward passes that a head needs for one document."""

    task: Task
    windows: Sequence[Window]


Answer = list[FloatArray]
"""One array for each window of the Ask, in its order; shapes as `Reads` says."""

Annotation = Generator[Ask, Answer, None]


@dataclass(frozen=True, slots=True)
class Setup:
    """What every head gets from its checkpoint and the job."""

    builder: InputBuilder
    max_words: int
    """Longest span of `all` and `auto`."""
    whole_document: bool
    """Windows are filled with the text around the sentence."""
    proposers: ProposerConfig
    """Limits and tables of the job."""


class Head(ABC):
    """One configured head on a loaded checkpoint. The class says all that the job has to know of it.

    `interface` is what a head of another package was written for; a change here that breaks such heads raises it.
    """

    interface: ClassVar[int] = 1
    settings: ClassVar[type[HeadConfig]]
    version: ClassVar[int]
    """Raised by hand with every change of code that changes results; part of the fingerprint."""
    task: ClassVar[Task]
    """The pass that it asks for, with its weights; see `tasks` for a head with others."""
    contract: ClassVar[Mapping[str, object]] = {}
    """Types of the columns that schemas/annotations.v1.json does not list, as they would be written there."""
    codecs: ClassVar[Sequence[Codec]] = ()
    """Of columns that hold no rows of `Document.results`."""

    @abstractmethod
    def __init__(self, config: Any, setup: Setup, checkpoint: Checkpoint) -> None:
        """`config` is one of `settings`, and `check` has passed."""

    @classmethod
    def tasks(cls, config: Any, checkpoint: Checkpoint) -> list[Task]:  # noqa: ARG003 - for heads with several
        """The passes that the head may ask for."""
        return [cls.task]

    @classmethod
    def require(cls, config: Any, checkpoint: Checkpoint) -> None:
        """CheckpointError where the checkpoint has no such head."""
        checkpoint.require(config.head)

    @classmethod
    def check(cls, config: Any, checkpoint: Checkpoint) -> None:
        """ConfigError where the checkpoint, which has such a head, has not the labels that the settings name."""
        cls.require(config, checkpoint)  # most heads name none

    @property
    def name(self) -> str:
        """What `head` says in the configuration."""
        return str(self.settings.model_fields["head"].default)

    @abstractmethod
    def annotate(self, document: Document) -> Annotation:
        """Write this head's part of `document`; every model input goes through `ask`."""


def ask_in_parts(
    document: Document, task: Task, count: int, windows: Callable[[slice], Sequence[Window]]
) -> Generator[Ask, Answer, Answer]:
    """Ask for the windows of `count` items a part at a time, so that a document with very many of them never
    holds all their windows at once. `windows` builds those of a slice of the items.
    """
    answers: Answer = []
    for start in range(0, count, _ITEMS_AT_ONCE):
        with meters.spending("build"):
            part = windows(slice(start, start + _ITEMS_AT_ONCE))
        answers += yield from ask(document, task, part)
    return answers


def ask_each(
    document: Document,
    task: Task,
    count: int,
    windows: Callable[[slice], Sequence[Window]],
    take: Callable[[int, FloatArray], None],
    at_once: int = _ITEMS_AT_ONCE,
) -> Generator[Ask, Answer, None]:
    """`ask_in_parts` for one window an item; `take` gets each output with its item's number, so that a long
    document's outputs are never held together.
    """
    for start in range(0, count, at_once):
        answer = yield from ask(document, task, windows(slice(start, min(start + at_once, count))))
        for number, output in enumerate(answer, start):
            take(number, output)


def ask(document: Document, task: Task, windows: Sequence[Window]) -> Generator[Ask, Answer, Answer]:
    """Ask for `windows` and count them in the document's coverage; no window, no pass."""
    if not windows:
        return []
    document.coverage.windows += len(windows)
    document.coverage.tokens += sum(len(window.token_ids) for window in windows)
    return (yield Ask(task, windows))
