"""The settings of the heads that look at whole texts."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from luke_batch.config.heads import HeadConfig, SourceColumn
from luke_batch.config.section import listed


class SequenceConfig(HeadConfig):
    """Labels or values of a text (LukeForSequenceClassification)."""

    head: Literal["sequence"] = "sequence"
    multi_label: Literal["auto"] | bool = "auto"
    """auto: what the checkpoint says."""
    regression: Literal["auto"] | bool = "auto"
    """The outputs are values instead of labels; auto: what the checkpoint says, else where it has a single
    one.
    """
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Multi-label: labels with at least this probability are written; null: what the checkpoint says, else
    0.5.
    """

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.multi_label is True and self.regression is True:
            raise ValueError("either `multi_label` or `regression`: values are no labels")
        return self


class TokensConfig(HeadConfig):
    """Labels of words, joined to spans (LukeForTokenClassification)."""

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


class QaConfig(HeadConfig):
    """Answers to questions, as spans of the text (LukeForQuestionAnswering)."""

    head: Literal["qa"] = "qa"
    questions: Annotated[list[str], BeforeValidator(listed)] = []
    """Questions that are asked of every document."""
    question_column: str | None = None
    """Column with a question, or with a list of them, for each document."""
    n_best: int = Field(default=1, ge=1, le=20)
    """Answers that are written for each question, best first."""
    max_answer_tokens: int = Field(default=30, ge=1)
    """Longest answer in tokens; one longer than half of `stride` may be cut off by its window."""
    stride: int = Field(default=128, ge=0, le=256)
    """Tokens that neighbouring windows of a long text share."""
    no_answer: bool = False
    """The checkpoint was trained to say that a text has no answer (SQuAD 2)."""
    no_answer_margin: float = 0.0
    """With `no_answer`: by how much the logits of no answer must exceed those of the best answer."""

    @property
    def source_columns(self) -> list[SourceColumn]:
        """See HeadConfig."""
        name = self.question_column
        return [] if name is None else [SourceColumn("question_column", name, is_list=None)]

    @model_validator(mode="after")
    def _has_questions(self) -> Self:
        if not self.questions and self.question_column is None:
            raise ValueError("needs `questions` or `question_column`")
        return self


class ChoiceConfig(HeadConfig):
    """The best of several candidates for a text (LukeForMultipleChoice)."""

    head: Literal["choice"] = "choice"
    candidates: list[str] = []
    """Candidates of every document."""
    candidates_column: str | None = None
    """Column with a list of candidates for each document."""
    question_column: str | None = None
    """Column with a question that is put before each candidate."""
    stride: int = Field(default=128, ge=0, le=256)
    """Tokens that neighbouring windows of a long text share."""

    @property
    def source_columns(self) -> list[SourceColumn]:
        """See HeadConfig."""
        named = [
            ("candidates_column", self.candidates_column, True),
            ("question_column", self.question_column, False),
        ]
        return [SourceColumn(setting, name, is_list) for setting, name, is_list in named if name is not None]

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.candidates) == (self.candidates_column is not None):
            raise ValueError("needs either `candidates` or `candidates_column`")
        return self


class ClozeConfig(HeadConfig):
    """What fills the gap of a prompt: words and entities (LukeForMaskedLM)."""

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
