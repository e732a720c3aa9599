"""Which heads there are: our own, and those of other packages.

Another package names its heads as entry points of the group `luke_batch.heads`; a program may also `register` one of a
module that the workers of its jobs can import.
"""

from collections.abc import Sequence
from importlib import import_module

from luke_batch.base.contracts import add_columns
from luke_batch.base.plugins import load_plugins
from luke_batch.document.columns import add_codec
from luke_batch.heads.choice import ChoiceHead
from luke_batch.heads.cloze import ClozeHead
from luke_batch.heads.embeddings import EmbeddingsHead
from luke_batch.heads.head import Head, HeadConfig, Setup
from luke_batch.heads.links import LinksHead
from luke_batch.heads.ner import NerHead
from luke_batch.heads.qa import QaHead
from luke_batch.heads.relations import RelationsHead
from luke_batch.heads.sequence import SequenceHead
from luke_batch.heads.tokens import TokensHead
from luke_batch.heads.types import TypesHead
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.text.proposer import Proposer
from luke_batch.text.proposers import ProposerConfig, other_proposers
from luke_batch.text.proposers import register as register_proposer

HEADS: tuple[type[Head], ...] = (
    NerHead,
    TypesHead,
    RelationsHead,
    LinksHead,
    EmbeddingsHead,
    SequenceHead,
    TokensHead,
    QaHead,
    ChoiceHead,
    ClozeHead,
)

_MAX_WORDS = 16
"""Longest span in words where neither the job nor the checkpoint says: that of the published CoNLL-2003
code.
"""

_known: dict[str, type[Head]] = {}


def register(head: type[Head]) -> None:
    """Make a head known to every configuration that is loaded from now on. Its columns join the contract."""
    _known[str(head.settings.model_fields["head"].default)] = head
    add_columns("annotations", head.contract)
    for codec in head.codecs:
        add_codec(codec)


def known_heads() -> dict[str, type[Head]]:
    """All heads by their names; those of other packages are looked for once.

    Raises ConfigError where one was written for another interface.
    """
    for head in load_plugins("luke_batch.heads", Head):
        register(head)
    return _known


def head_class(config: HeadConfig) -> type[Head]:
    """The head of these settings."""
    return known_heads()[config.head]


def others() -> list[str]:
    """Heads and proposers that are not ours, as `module:class`: another process must `adopt` them before it reads the
    configuration.
    """
    heads = {head for head in _known.values() if head not in HEADS}
    return sorted(f"{each.__module__}:{each.__qualname__}" for each in heads | other_proposers())


def adopt(names: Sequence[str]) -> None:
    """Make known what `others` named in another process."""
    for name in names:
        module, _, attribute = name.partition(":")
        found = getattr(import_module(module), attribute)
        if issubclass(found, Proposer):
            register_proposer(found)
        else:
            register(found)


def build_head(config: HeadConfig, proposers: ProposerConfig, checkpoint: Checkpoint, builder: InputBuilder) -> Head:
    """A configured head on a loaded checkpoint."""
    found = checkpoint.heads.get("ner")
    trained_words = found.max_words if found is not None else None
    context = getattr(config, "context", None) or checkpoint.context
    setup = Setup(
        builder=builder,
        max_words=proposers.max_words or trained_words or _MAX_WORDS,
        whole_document=context == "document",
        proposers=proposers,
    )
    return head_class(config)(config, setup, checkpoint)


for _head in HEADS:
    register(_head)
