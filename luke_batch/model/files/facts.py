"""What a checkpoint knows about its heads: labels and how to decode them. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.reading import TensorFacts, read_object
from luke_batch.model.task import Task

MANIFEST = "luke_batch.json"
FORMAT = 1
SECTION = "luke_batch"
"""Of config.json: what a fine-tuned head knows beyond the settings of transformers."""
SECTION_FORMAT = 1
SCORER = "spans"
"""The span scorer among the heads, and the key of the section that says its threshold."""
SCORER_LABELS = ("start", "end")
PAIR_SCORER = "pairs"
"""The pair scorer among the heads: a joint head of pairs with one label."""

LAYERS = {
    task.head: task for task in (Task.NER, Task.TYPES, Task.RELATIONS, Task.SEQUENCE, Task.TOKENS, Task.QA, Task.CHOICE)
}
"""Head -> what its linear layer reads, of the heads that transformers' classes have."""
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "LukeForEntitySpanClassification": ("ner",),
    "LukeForEntityClassification": ("types",),
    "LukeForEntityPairClassification": ("relations",),
    "LukeForMaskedLM": ("links", "cloze"),
    "LukeForSequenceClassification": ("sequence",),
    "LukeForTokenClassification": ("tokens",),
    "LukeForQuestionAnswering": ("qa",),
    "LukeForMultipleChoice": ("choice",),
}
_WORD_HEAD = "lm_head.dense.weight"
_OWN_LABELS = {"links": (), "cloze": (), "qa": ("start", "end"), "choice": ("choice",)}
"""What the logits of these heads mean whatever the checkpoint calls them."""


class HeadFacts(BaseModel):
    """One head. None: the checkpoint does not tell, the job's settings decide."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    labels: tuple[str, ...] = Field(default=(), strict=False)
    """In the order of the logits; empty for embeddings."""
    none_label: str | None = None
    """The label that means "nothing"."""
    multi_label: bool | None = None
    """Labels do not exclude one another."""
    input: Literal["marked", "joint"] = "marked"
    """types, relations: one mention or pair a window, between markers, or all mentions of a sentence in one window.
    embeddings: `joint` where the text vector is the mean of the words of those windows.
    """
    temperature: float = Field(default=1.0, gt=0)
    """Logits are divided by it before they become probabilities (calibration; decoding uses raw logits)."""
    offsets: tuple[float, ...] = Field(default=(), strict=False)
    """Multi-label: added to the logits of each label before the division; empty, or one for each label."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """The least probability to write; None: any where labels exclude one another."""
    coarse: dict[str, list[str]] = Field(default_factory=lambda: dict[str, list[str]]())
    """types: labels of mentions that a type goes with; a type that is not named goes with all."""
    max_words: int | None = Field(default=None, ge=1)
    """Longest span, in words, that the head was trained with."""
    regression: bool | None = None
    """sequence: the outputs are values instead of logits of labels."""
    prior_weight: float | None = Field(default=None, ge=0)
    """links: weight of the logarithm of a candidate's prior beside its logit."""
    nil_score: float | None = None
    """links: what "none of the candidates" scores, against their logits and weighted priors."""

    @field_validator("offsets")
    @classmethod
    def _one_offset_a_label(cls, offsets: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        labels = info.data.get("labels", ())
        if offsets and len(offsets) != len(labels):
            raise ValueError(f"{len(offsets)} offsets for {len(labels)} labels")
        return offsets


class _Manifest(BaseModel):
    heads: dict[str, HeadFacts]
    context: Literal["none", "document"] | None = None


Heads = tuple[dict[str, HeadFacts], Literal["none", "document"] | None]


def read_manifest(folder: Path) -> Heads:
    """Heads and context of luke-batch's own format; CheckpointError where luke_batch.json cannot be used."""
    path = folder / MANIFEST
    content = read_object(path)
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: format {content.get('format')!r}, but this luke-batch reads {FORMAT}; update luke-batch"
        )
    try:
        manifest = _Manifest.model_validate(content)
    except ValidationError as error:
        raise CheckpointError(f"{path}: {first_complaint(error)}; write the model again") from error
    for name, facts in manifest.heads.items():
        if facts.none_label is not None and facts.none_label not in facts.labels:
            raise CheckpointError(
                f"{path}: heads.{name}.none_label {facts.none_label!r} is not among its labels; write the model again"
            )
    return manifest.heads, manifest.context


def transformers_heads(config: Mapping[str, object], tensors: Mapping[str, TensorFacts], path: str) -> Heads:
    """Heads and context of a transformers checkpoint, by its architecture.

    Without a section of ours config.json does not tell the context, but LUKE's own NER fine-tuning always
    filled the window. Raises CheckpointError where that section is of a newer format, or malformed.
    """
    architectures = cast("list[str]", config.get("architectures") or [])
    if not any(name in ARCHITECTURES for name in architectures) and _WORD_HEAD in tensors:
        architectures = ["LukeForMaskedLM"]  # files of LukeModel to which its heads were added later
    heads: dict[str, HeadFacts] = {}
    for architecture in architectures:
        for head in ARCHITECTURES.get(architecture, ()):
            named = _OWN_LABELS.get(head)
            heads[head] = HeadFacts(
                labels=_labels(config, tensors, path) if named is None else named,
                multi_label=_problem(config, "multi_label_classification"),
                regression=_problem(config, "regression") if head == "sequence" else None,
            )
    section = config.get(SECTION)
    if section is not None:
        return _with_section(heads, section, path)
    return heads, "document" if "ner" in heads else None


_IN_SECTION = ("none_label", "temperature", "offsets", "threshold", "max_words", "prior_weight", "nil_score")


def _with_section(heads: dict[str, HeadFacts], content: object, path: str) -> Heads:
    section = cast("dict[str, object]", content if isinstance(content, dict) else {})
    if section.get("format") != SECTION_FORMAT:
        raise CheckpointError(
            f"{path}: config.json has a section {SECTION} of format {section.get('format')!r}, but this"
            f" luke-batch reads {SECTION_FORMAT}; update luke-batch"
        )
    told = {name: section[name] for name in _IN_SECTION if name in section}
    described: dict[str, object] = {name: {**facts.model_dump(), **told} for name, facts in heads.items()}
    if "ner" in heads and SCORER in section:
        scorer = section[SCORER]
        described[SCORER] = {"labels": SCORER_LABELS, **scorer} if isinstance(scorer, dict) else scorer
    try:
        found = _Manifest.model_validate({"heads": described, "context": section.get("context")})
    except ValidationError as error:
        key = first_complaint(error, leave_out=2)
        raise CheckpointError(f"{path}: {SECTION}.{key} in config.json; mend it") from error
    return found.heads, found.context


def first_complaint(error: ValidationError, leave_out: int = 0) -> str:
    """The first of a validation's errors: its key, without the first parts of one inside a head, and what is wrong."""
    first = error.errors()[0]
    place = first["loc"][leave_out:] if first["loc"][0] == "heads" else first["loc"]
    return f"{'.'.join(str(part) for part in place)}: {first['msg']}"


def _labels(config: Mapping[str, object], tensors: Mapping[str, TensorFacts], path: str) -> tuple[str, ...]:
    """id2label in the order of ids; where transformers left it out, its default names LABEL_0, LABEL_1, …"""
    id2label = cast("dict[str, object] | None", config.get("id2label"))
    if not id2label:
        rows = tensors["classifier.weight"].shape[0] if "classifier.weight" in tensors else 0
        return tuple(f"LABEL_{row}" for row in range(rows))
    try:
        by_id = {int(key): str(label) for key, label in id2label.items()}
    except (AttributeError, ValueError) as error:
        raise CheckpointError(f"{path}: id2label in config.json is not {{id: label}}; mend it") from error
    if sorted(by_id) != list(range(len(by_id))):
        raise CheckpointError(f"{path}: id2label in config.json has gaps in its ids; mend it")
    return tuple(by_id[number] for number in range(len(by_id)))


def _problem(config: Mapping[str, object], kind: str) -> bool | None:
    problem = config.get("problem_type")
    return None if problem is None else problem == kind
