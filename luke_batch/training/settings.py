"""The settings of a fine-tuning run: one typed model, every field with a default and a docstring."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from luke_batch.base.errors import ConfigError
from luke_batch.base.section import EMBEDDED

HeadName = Literal["ner", "types", "relations"]
HEAD_NAMES: tuple[HeadName, ...] = ("ner", "types", "relations")

Rate = Annotated[float, Field(gt=0, le=1)]


class FinetuneConfig(BaseModel):
    """How a model is fine-tuned. All of it, save `checkpoint_seconds` and `allow_overlap`, decides what comes out."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    heads: tuple[HeadName, ...] = Field(min_length=1)
    """The heads that are trained, over one shared encoder."""
    input: Literal["auto", "marked", "joint"] = "auto"
    """What types and relations read: a pass for each mention and pair, between markers (Yamada et al. 2020), or one
    pass for all mentions of a sentence; auto: joint, where several heads are trained.
    """
    base: str = EMBEDDED
    """Where the encoder comes from: `embedded`, a folder, hub id or `s3://` folder of a LUKE or mLUKE
    checkpoint, or a folder or hub id of a BERT-, RoBERTa- or XLM-R-type encoder.
    """
    epochs: float = Field(default=3, gt=0)
    """Passes over the training data."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; goes before `epochs`."""
    batch_tokens: int = Field(default=1024, ge=64)
    """Padded word and entity positions of a batch, for each worker."""
    learning_rate: Rate | None = None
    """Highest rate of the encoder; none: 1e-4 below a hidden size of 512, else 2e-5."""
    head_learning_rate: Rate | None = None
    """Highest rate of heads and entity rows; none: ten times the encoder's."""
    warm_up: float = Field(default=0.06, ge=0, lt=1)
    """Share of the steps in which the rates rise; then they fall to nothing in a straight line."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of weights; biases, norms and embeddings have none."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Before each head."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of new weights, order and sampling."""
    workers: int = Field(default=1, ge=1)
    """Processes that train together, each on batches of its own."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 products where the hardware has them."""
    gradient_checkpointing: bool = False
    """Compute the layers a second time instead of keeping their inner states: for large models."""
    freeze_words: bool = False
    """Leave the word embeddings as they are; always so where the base stores them with 8 bits."""
    multi_label: Literal["auto", "yes", "no"] = "auto"
    """Several labels of one mention or pair (types, relations); auto: yes where the data has such."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: an example counts more the rarer its label is, 10 times at most."""
    negatives: int = Field(default=26, ge=2)
    """Spans that are no mention, about as many at most, that a sentence shows the ner head."""
    unrelated: Literal["auto", "all", "given"] = "auto"
    """Which pairs have no relation: all ordered pairs without one, or those given as such (`no_relation`);
    auto: given, where the data has any.
    """
    unrelated_weight: float = Field(default=0.5, gt=0, le=1)
    """How often a pair without relation is shown, against one with some."""
    max_words: int | None = Field(default=None, ge=1, le=64)
    """Longest span in words that the ner head is trained for; none: enough for 99% of the mentions."""
    max_tokens: int = Field(default=256, ge=16)
    """Examples with more tokens are left out, and counted."""
    precision_floor: float | None = Field(default=None, gt=0, lt=1)
    """Several labels: the threshold must reach this precision on dev, if one does."""
    evaluations: int = Field(default=10, ge=1)
    """How often dev is scored during the run; the best state is kept."""
    checkpoint_seconds: float = Field(default=300, gt=0)
    """Time between two checkpoints, from which a killed run goes on."""
    allow_overlap: bool = False
    """Train although more than 1% of the texts of DEV are in TRAIN."""

    @model_validator(mode="after")
    def _distinct_heads(self) -> Self:
        if len(set(self.heads)) < len(self.heads):
            raise ValueError("each head once")
        return self

    @property
    def joint(self) -> bool:
        """Whether types and relations read one pass."""
        return self.input == "joint" or (self.input == "auto" and len(self.heads) > 1)

    @property
    def identity(self) -> dict[str, object]:
        """What decides the outcome."""
        return self.model_dump(mode="json", exclude={"checkpoint_seconds", "allow_overlap"})

    def rates(self, hidden_size: int) -> tuple[float, float]:
        """The highest learning rates of encoder and heads."""
        encoder = self.learning_rate or (1e-4 if hidden_size < 512 else 2e-5)
        return encoder, self.head_learning_rate or min(10 * encoder, 1.0)


def checked(**values: object) -> FinetuneConfig:
    """The settings of these values; ConfigError with one line where one cannot be used."""
    try:
        return FinetuneConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]).replace("_", "-")
        where = f"--{name} {first['input']!r}: " if name else ""
        raise ConfigError(f"{where}{first['msg']}; see `luke-batch finetune --help`") from error
