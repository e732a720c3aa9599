"""Words and entities for the gap of a prompt, scored as in mLAMA.

A candidate gets as many `<mask>` words as it has pieces in the gap, and its word score is the mean of their
log-probabilities (Kassner et al. 2021, "Multilingual LAMA"). Where entities are asked, a [MASK] entity lies
over the masks, and the log-probability of the candidate's entity there is the entity score (Ri et al. 2022,
"mLUKE", section 5).
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.base.errors import CheckpointError, DocumentError
from luke_batch.base.section import listed
from luke_batch.document.state import Document, Row, Source
from luke_batch.heads.head import Annotation, Answer, Ask, Head, HeadConfig, Setup, SourceColumn, ask
from luke_batch.heads.titles import Titles
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.tokenizer import SPECIAL_ENTRIES, Tokenizer
from luke_batch.model.inputs.windows import Gaps, InputBuilder, Window, around_gap, context_sizes, gap_lead, in_gap
from luke_batch.model.task import Reads, Task


class ClozeConfig(HeadConfig):
    """What fills the gap of a prompt: words and entities (LukeForMaskedLM)."""

    columns = ("cloze",)

    head: Literal["cloze"] = "cloze"
    template: str | None = None
    """Prompt of every document: [X] is the subject, [Y] the object to predict."""
    template_column: str | None = None
    """Column with a prompt for each document."""
    subject_column: str | None = None
    """Column with the subject; null: the text of the document."""
    candidates: list[str] = []
    """Objects that are scored for every document; none here and in `candidates_column`: any word of a single
    piece, and any entity.
    """
    candidates_column: str | None = None
    """Column with a list of objects to score for each document."""
    of: Annotated[list[Literal["words", "entities"]], BeforeValidator(listed), Field(min_length=1)] = ["words"]
    """words: by the word head; entities: by the entity head, from a [MASK] entity over the gap that the model
    reads in addition.
    """
    best: int = Field(default=5, ge=1, le=1000)
    """Objects that are written, best first; without candidates so many words and so many entities."""
    title_language: str = "en"
    """Language of titles that name none: `Paris` and `en:Paris` are one entity of the model."""

    @property
    def is_open(self) -> bool:
        """Whether the objects are those of the whole vocabularies."""
        return not self.candidates and self.candidates_column is None

    @property
    def needs_titles(self) -> bool:
        """See HeadConfig."""
        return "entities" in self.of

    @property
    def predicts(self) -> Collection[str]:
        """See HeadConfig."""
        return self.of

    @property
    def source_columns(self) -> list[SourceColumn]:
        """See HeadConfig."""
        named = [
            ("template_column", self.template_column, False),
            ("subject_column", self.subject_column, False),
            ("candidates_column", self.candidates_column, True),
        ]
        return [SourceColumn(setting, name, is_list) for setting, name, is_list in named if name is not None]

    @model_validator(mode="after")
    def _one_template(self) -> Self:
        if (self.template is None) == (self.template_column is None):
            raise ValueError("needs either `template` or `template_column`")
        if self.template is not None and self.template.count("[Y]") != 1:
            raise ValueError("`template` needs the object [Y] exactly once")
        if self.candidates and self.candidates_column is not None:
            raise ValueError("needs either `candidates` or `candidates_column`, or neither")
        return self


@dataclass(frozen=True, slots=True)
class Objects:
    """The candidates of one document that the model can be asked about."""

    texts: list[str]
    pieces: list[IntArray]
    """(t,) token ids of each, at least one."""
    entities: IntArray
    """(n,) ids; -1 where the model knows none."""
    dropped: dict[str, int]
    """How many were left out, by the reasons of coverage."""

    def by_length(self) -> list[NDArray[np.intp]]:
        """Those that share a window: equally many pieces, the fewest first."""
        lengths = np.array([len(piece) for piece in self.pieces])
        return [np.flatnonzero(lengths == length) for length in np.unique(lengths)]


class ObjectReader:
    """Reads the candidates of documents; those of the configuration once."""

    def __init__(self, config: ClozeConfig, builder: InputBuilder, titles: Titles | None) -> None:
        """`titles`: None where no entities are asked."""
        self._config = config
        self._builder = builder
        self._titles = titles
        self._shared: dict[str, Objects] = {}

    def read(self, document: Document, left: str) -> Objects:
        """The candidates for a gap after `left`; what is left out is counted in coverage."""
        lead = gap_lead(self._builder, left)
        if self._config.candidates_column is not None:
            objects = self._known(document, lead)
        else:
            objects = self._shared[lead] = self._shared.get(lead) or self._known(document, lead)
        for reason, count in objects.dropped.items():
            document.coverage.drop(reason, count)
        return objects

    def _known(self, document: Document, lead: str) -> Objects:
        texts = candidates_of(self._config, document)
        pieces = in_gap(self._builder, lead, texts)
        lengths = np.array([len(piece) for piece in pieces], np.int32)
        fits = lengths <= self._builder.max_tokens - 2
        kept = np.flatnonzero(fits & (lengths > 0)).tolist()
        found = [None if self._titles is None else self._titles.find(texts[place]) for place in kept]
        entities = np.array([-1 if number is None else number for number in found], np.int32)
        dropped = {
            "missing_candidates": int(not texts),
            "candidate_longer_than_window": int((~fits).sum()),
            "candidate_without_token": int((lengths == 0).sum()),
            "candidate_without_entity": 0 if self._titles is None else int((entities < 0).sum()),
        }
        return Objects([texts[place] for place in kept], [pieces[place] for place in kept], entities, dropped)


class Fillers:
    """Texts of words and entities by their ids, and the ids that have none."""

    def __init__(self, tokenizer: Tokenizer, language: str, words: int, entities: int) -> None:
        """`words`, `entities`: rows of the model's tables; 0 where these are not asked."""
        self.words: Mapping[int, str] = {
            number: text for number, text in enumerate(tokenizer.word_texts() if words else []) if text
        }
        self.entities: Mapping[int, str] = entity_names(tokenizer.entity_vocab, language) if entities else {}
        self.never = _others(self.words, words), _others(self.entities, entities)
        """Ids of words and of entities that are never predicted."""


class ClozeHead(Head):
    """`head: cloze`."""

    settings = ClozeConfig
    version = 1
    task = Task(Reads.GAPS, "cloze")

    def __init__(self, config: ClozeConfig, setup: Setup, checkpoint: Checkpoint) -> None:
        self._config = config
        self._builder = setup.builder
        self._words, self._entities = (name in config.of for name in ("words", "entities"))
        tokenizer = setup.builder.tokenizer
        titles = Titles.of(tokenizer, config.title_language) if config.needs_titles else None
        self._objects = ObjectReader(config, setup.builder, titles)
        self._fillers: Fillers | None = None
        if config.is_open:
            words, entities = (checkpoint.setting(name) for name in ("vocab_size", "entity_vocab_size"))
            self._fillers = Fillers(
                tokenizer,
                config.title_language,
                words if self._words else 0,
                entities if self._entities else 0,
            )

    @classmethod
    def require(cls, config: ClozeConfig, checkpoint: Checkpoint) -> None:
        """CheckpointError where gaps are to be filled by a checkpoint that cannot."""
        if config.head not in checkpoint.heads:
            raise CheckpointError(
                f"{checkpoint.path}: has no word head, so it cannot fill gaps (`head: cloze`); choose a "
                "LukeForMaskedLM checkpoint, such as studio-ousia/luke-base or studio-ousia/mluke-base"
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
        (found,) = yield from ask(document, self.task, [replace(window, gaps=gaps)])
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
        answer = yield from ask(document, self.task, windows)
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


SUBJECT, OBJECT = "[X]", "[Y]"


def prompt_of(config: ClozeConfig, document: Document) -> tuple[str, str] | None:
    """The text before and after the gap; None where the template, or the subject that it names, is null or
    blank.

    Raises DocumentError where the template has not exactly one [Y].
    """
    template = config.template if config.template_column is None else _text(document, config.template_column)
    if not template:
        return None
    if template.count(OBJECT) != 1:
        raise DocumentError(
            f"the template {template[:80]!r} has {template.count(OBJECT)} objects {OBJECT} instead of one; "
            f"mend it in column {config.template_column}",
            stage="cloze",
        )
    left, _, right = template.partition(OBJECT)
    if SUBJECT not in template:
        return left, right
    subject = document.text.strip() if config.subject_column is None else _text(document, config.subject_column)
    # The object is found first: a subject that spells [Y] is text.
    return (left.replace(SUBJECT, subject), right.replace(SUBJECT, subject)) if subject else None


def candidates_of(config: ClozeConfig, document: Document) -> list[str]:
    """What may fill the gap, without blank and repeated ones."""
    found: Source = list(config.candidates)
    if config.candidates_column is not None:
        found = document.source[config.candidates_column]
    texts = found if isinstance(found, list) else []
    return list(dict.fromkeys(text.strip() for text in texts if text is not None and text.strip()))


def _text(document: Document, column: str) -> str:
    value = document.source[column]
    return value.strip() if isinstance(value, str) else ""


def entity_names(vocabulary: Mapping[str, int], language: str) -> dict[int, str]:
    """The title of each entity, without special entries: in `language` where it has one in it, and then
    without the prefix that names it (`Paris` for `en:Paris`), else the first one (`ja:東京`).
    """
    prefix = f"{language}:"
    names: dict[int, str] = {}
    foreign: dict[int, str] = {}
    for title, number in vocabulary.items():
        if title.startswith(prefix):
            names.setdefault(number, title.removeprefix(prefix))
        elif title not in SPECIAL_ENTRIES:
            foreign.setdefault(number, title)
    return foreign | names


def _others(names: Mapping[int, str], count: int) -> IntArray:
    missing = np.ones(count, bool)
    missing[[number for number in names if number < count]] = False
    return np.flatnonzero(missing).astype(np.int32)
