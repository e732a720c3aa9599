"""From the configuration of a head and the facts of its checkpoint to the head itself."""

from collections.abc import Callable
from typing import Any

from luke_batch.base.errors import ConfigError
from luke_batch.config import (
    EmbeddingsConfig,
    HeadConfig,
    JobConfig,
    LinksConfig,
    NerConfig,
    RelationsConfig,
    SpanHeadConfig,
    TypesConfig,
)
from luke_batch.config import (
    Head as AnyHead,
)
from luke_batch.heads.base import Head, Setup
from luke_batch.heads.embeddings import EmbeddingsHead
from luke_batch.heads.linking import Scale
from luke_batch.heads.links import LinksHead
from luke_batch.heads.ner import NerHead
from luke_batch.heads.relations import RelationsHead
from luke_batch.heads.scores import Labels
from luke_batch.heads.text_heads import TEXT_BUILDERS, TEXT_TASKS, check_text_head, require_word_head
from luke_batch.heads.titles import Titles
from luke_batch.heads.types import TypesHead
from luke_batch.model.engine.engine import Task
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.facts import HeadFacts
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.text.names.aliases import load_aliases

_MAX_WORDS = 16
"""Longest span in words where neither the job nor the checkpoint says: that of the published CoNLL-2003
code.
"""

_TASKS: dict[type[HeadConfig], Task] = {
    TypesConfig: Task.ENTITY,
    RelationsConfig: Task.PAIR,
    LinksConfig: Task.LINKS,
    **TEXT_TASKS,
}
_VECTORS = {
    "mentions": Task.MENTIONS,
    "entities": Task.MENTIONS,
    "text": Task.TEXT,
    "words": Task.TEXT,
}
_NONE_LABELS = {"ner": "NIL", "relations": "no_relation"}
"""What published checkpoints call "nothing"; where it is missing, their first label means it."""


def tasks_of(head: HeadConfig, checkpoint: Checkpoint) -> list[Task]:
    """The passes that a head may ask for."""
    if isinstance(head, NerConfig):
        scored = "spans" in checkpoint.heads and not {"all", "auto"}.isdisjoint(head.spans)
        return [Task.BOUNDS, Task.SPANS] if scored else [Task.SPANS]
    if isinstance(head, EmbeddingsConfig):
        return list({_VECTORS[name]: None for name in head.of})
    return [_TASKS[type(head)]]


def require_head(head: AnyHead, checkpoint: Checkpoint) -> None:
    """CheckpointError where the checkpoint has no such head."""
    require_word_head(head, checkpoint)
    checkpoint.require(head.head)


def check_head(head: AnyHead, checkpoint: Checkpoint) -> None:
    """ConfigError where the checkpoint, which has such a head, has no such label."""
    check_text_head(head, checkpoint)
    if isinstance(head, (NerConfig, TypesConfig, RelationsConfig)):
        labels_of(head, checkpoint)


def labels_of(head: NerConfig | TypesConfig | RelationsConfig, checkpoint: Checkpoint) -> Labels:
    """The labels of a head; settings of the job go before what the checkpoint says.

    Raises CheckpointError where the checkpoint has no such head, ConfigError where it has no such label.
    """
    facts = checkpoint.require(head.head)
    if isinstance(head, NerConfig):
        multi = False  # a span is one thing, or nothing
    else:
        multi = bool(facts.multi_label) if head.multi_label == "auto" else head.multi_label
    none = -1 if isinstance(head, TypesConfig) else _none_label(head, facts, multi, checkpoint.path)
    threshold = None if isinstance(head, NerConfig) else head.threshold
    return Labels(
        names=facts.labels,
        none=none,
        multi=multi,
        temperature=facts.temperature or 1.0,
        offsets=facts.offsets if multi else (),
        threshold=threshold or facts.threshold or 0.5,
    )


def _none_label(head: NerConfig | RelationsConfig, facts: HeadFacts, multi: bool, path: str) -> int:
    named = head.none_label or facts.none_label
    if named is not None:
        if named not in facts.labels:
            shown = ", ".join(facts.labels[:8])
            raise ConfigError(f"heads ({head.head}): {path} has no label {named!r} for `none_label`; it has {shown}")
        return facts.labels.index(named)
    usual = _NONE_LABELS[head.head]
    if usual in facts.labels:
        return facts.labels.index(usual)
    return -1 if multi else 0


def build_head(config: JobConfig, number: int, checkpoint: Checkpoint, builder: InputBuilder) -> Head:
    """Head `number` of the configuration on a loaded checkpoint."""
    head = config.heads[number]
    found = checkpoint.heads.get("ner")
    trained_words = found.max_words if found is not None else None
    context = head.context if isinstance(head, SpanHeadConfig) else None
    setup = Setup(
        builder=builder,
        max_words=config.proposers.max_words or trained_words or _MAX_WORDS,
        whole_document=(context or checkpoint.context) == "document",
        proposers=config.proposers,
    )
    return _BUILDERS[type(head)](head, setup, checkpoint)


def _ner(head: NerConfig, setup: Setup, checkpoint: Checkpoint) -> Head:
    scorer = checkpoint.heads.get("spans")
    least = None if scorer is None else scorer.threshold or 0.5
    return NerHead(head, setup, labels_of(head, checkpoint), least)


def _types(head: TypesConfig, setup: Setup, checkpoint: Checkpoint) -> Head:
    return TypesHead(head, setup, labels_of(head, checkpoint))


def _relations(head: RelationsConfig, setup: Setup, checkpoint: Checkpoint) -> Head:
    return RelationsHead(head, setup, labels_of(head, checkpoint))


def _links(head: LinksConfig, setup: Setup, checkpoint: Checkpoint) -> Head:
    facts = checkpoint.require("links")
    scale = Scale(
        temperature=facts.temperature,
        prior_weight=facts.prior_weight or 0.0 if head.prior_weight is None else head.prior_weight,
        nil_score=facts.nil_score,
        threshold=facts.threshold or 0.0 if head.threshold is None else head.threshold,
    )
    table = setup.proposers.aliases
    known = head.candidates == "aliases"
    aliases = load_aliases(table.path, content_hash=table.content_hash) if known else None
    return LinksHead(head, setup, scale, Titles.of(setup.builder.tokenizer, head.title_language), aliases)


def _embeddings(head: EmbeddingsConfig, setup: Setup, checkpoint: Checkpoint) -> Head:
    titles = Titles.of(setup.builder.tokenizer, head.title_language) if head.needs_titles else None
    return EmbeddingsHead(head, setup, checkpoint.hidden_size, titles)


_BUILDERS: dict[type[HeadConfig], Callable[[Any, Setup, Checkpoint], Head]] = {
    NerConfig: _ner,
    TypesConfig: _types,
    RelationsConfig: _relations,
    LinksConfig: _links,
    EmbeddingsConfig: _embeddings,
    **TEXT_BUILDERS,
}
