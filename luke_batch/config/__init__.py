"""The job configuration; see `job.py`."""

from luke_batch.base.section import EMBEDDED, Section
from luke_batch.config.job import JobConfig
from luke_batch.config.sections import InputConfig, IsolationConfig, OutputConfig, SegmenterConfig
from luke_batch.heads.choice import ChoiceConfig
from luke_batch.heads.cloze import ClozeConfig
from luke_batch.heads.embeddings import EmbeddingsConfig
from luke_batch.heads.head import HeadConfig, SourceColumn, SpanHeadConfig
from luke_batch.heads.links import LinksConfig
from luke_batch.heads.ner import NerConfig
from luke_batch.heads.qa import QaConfig
from luke_batch.heads.relations import RelationsConfig
from luke_batch.heads.sequence import SequenceConfig
from luke_batch.heads.tokens import TokensConfig
from luke_batch.heads.types import TypesConfig
from luke_batch.model.settings import DEFAULT_MODEL, ModelConfig, Precision
from luke_batch.text.names.aliases import AliasConfig
from luke_batch.text.names.gazetteer import GazetteerConfig
from luke_batch.text.proposers import ProposerConfig

__all__ = [
    "DEFAULT_MODEL",
    "EMBEDDED",
    "AliasConfig",
    "ChoiceConfig",
    "ClozeConfig",
    "EmbeddingsConfig",
    "GazetteerConfig",
    "HeadConfig",
    "InputConfig",
    "IsolationConfig",
    "JobConfig",
    "LinksConfig",
    "ModelConfig",
    "NerConfig",
    "OutputConfig",
    "Precision",
    "ProposerConfig",
    "QaConfig",
    "RelationsConfig",
    "Section",
    "SegmenterConfig",
    "SequenceConfig",
    "SourceColumn",
    "SpanHeadConfig",
    "TokensConfig",
    "TypesConfig",
]
