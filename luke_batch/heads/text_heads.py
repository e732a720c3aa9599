"""From configuration and checkpoint to the heads that look at whole texts."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from luke_batch.base.errors import CheckpointError, ConfigError
from luke_batch.config import ChoiceConfig, ClozeConfig, HeadConfig, QaConfig, SequenceConfig, TokensConfig
from luke_batch.heads.base import Head, Setup
from luke_batch.heads.choice import ChoiceHead
from luke_batch.heads.cloze.cloze import ClozeHead
from luke_batch.heads.qa import QaHead
from luke_batch.heads.scores import Labels
from luke_batch.heads.sequence import SequenceHead
from luke_batch.heads.tokens import Scheme, Tags, TokensHead
from luke_batch.model.engine.engine import Task
from luke_batch.model.files.checkpoint import Checkpoint

TEXT_TASKS: Mapping[type[HeadConfig], Task] = {
    SequenceConfig: Task.SEQUENCE,
    TokensConfig: Task.TOKENS,
    QaConfig: Task.ANSWERS,
    ChoiceConfig: Task.CHOICE,
    ClozeConfig: Task.CLOZE,
}

_TAG = re.compile(r"[BIESLU]-.+", re.DOTALL)
_OUTSIDE = "O"


def require_word_head(head: HeadConfig, checkpoint: Checkpoint) -> None:
    """Raises CheckpointError where gaps are to be filled by a checkpoint that cannot."""
    if isinstance(head, ClozeConfig) and "cloze" not in checkpoint.heads:
        raise CheckpointError(
            f"{checkpoint.path}: has no word head, so it cannot fill gaps (`head: cloze`); choose a "
            "LukeForMaskedLM checkpoint, such as studio-ousia/luke-base or studio-ousia/mluke-base"
        )


def check_text_head(head: HeadConfig, checkpoint: Checkpoint) -> None:
    """Raises ConfigError where the labels of a checkpoint are not what the job says."""
    if isinstance(head, TokensConfig):
        scheme_of(head, token_labels(head, checkpoint), checkpoint.path)


def sequence_labels(head: SequenceConfig, checkpoint: Checkpoint) -> tuple[Labels, bool]:
    """The labels of `sequence`, and whether its outputs are values; settings of the job go first."""
    facts = checkpoint.require(head.head)
    multi = bool(facts.multi_label) if head.multi_label == "auto" else head.multi_label
    regression = head.regression
    if regression == "auto":
        alone = len(facts.labels) == 1 and not multi
        regression = alone if facts.regression is None else facts.regression and head.multi_label is not True
    labels = Labels(
        names=facts.labels,
        none=-1,
        multi=multi,
        temperature=facts.temperature,
        offsets=facts.offsets if multi else (),
        threshold=head.threshold or facts.threshold or 0.5,
    )
    return labels, regression


def token_labels(head: TokensConfig, checkpoint: Checkpoint) -> Labels:
    """The labels of `tokens`. ConfigError where `none_label` is not one of them."""
    facts = checkpoint.require(head.head)
    none = head.none_label or facts.none_label
    if none is None:
        none = _OUTSIDE if _OUTSIDE in facts.labels else None
    elif none not in facts.labels:
        shown = ", ".join(facts.labels[:8])
        raise ConfigError(
            f"heads ({head.head}): {checkpoint.path} has no label {none!r} for `none_label`; it has {shown}"
        )
    return Labels(
        names=facts.labels,
        none=-1 if none is None else facts.labels.index(none),
        multi=False,
        temperature=facts.temperature,
    )


def scheme_of(head: TokensConfig, labels: Labels, path: str) -> Scheme:
    """How the labels of words make spans. ConfigError where `iob` is asked for and a label is not so."""
    plain = [name for n, name in enumerate(labels.names) if n != labels.none and not _TAG.fullmatch(name)]
    if head.scheme == "iob" and plain:
        raise ConfigError(
            f"heads ({head.head}): {path} has the label {plain[0]!r}, which is no tag such as B-PER;"
            " use `scheme: plain`, or name it as `none_label`"
        )
    if head.scheme != "auto":
        return head.scheme
    return "plain" if plain else "iob"


def _sequence(head: SequenceConfig, setup: Setup, checkpoint: Checkpoint) -> Head:
    labels, regression = sequence_labels(head, checkpoint)
    return SequenceHead(setup, labels, regression=regression)


def _tokens(head: TokensConfig, setup: Setup, checkpoint: Checkpoint) -> Head:
    labels = token_labels(head, checkpoint)
    return TokensHead(head, setup, labels, Tags.of(labels, scheme_of(head, labels, checkpoint.path)))


def _qa(head: QaConfig, setup: Setup, checkpoint: Checkpoint) -> Head:
    return QaHead(head, setup, checkpoint.require(head.head).temperature)


def _choice(head: ChoiceConfig, setup: Setup, checkpoint: Checkpoint) -> Head:
    return ChoiceHead(head, setup, checkpoint.require(head.head).temperature)


def _cloze(head: ClozeConfig, setup: Setup, checkpoint: Checkpoint) -> Head:
    words, entities = (checkpoint.setting(name) for name in ("vocab_size", "entity_vocab_size"))
    return ClozeHead(head, setup, (words, entities))


TEXT_BUILDERS: Mapping[type[HeadConfig], Callable[[Any, Setup, Checkpoint], Head]] = {
    SequenceConfig: _sequence,
    TokensConfig: _tokens,
    QaConfig: _qa,
    ChoiceConfig: _choice,
    ClozeConfig: _cloze,
}
