"""The job configuration: one typed model, every key with a default and a docstring.

Where the values come from (YAML, `--set`, environment) is the business of `loading.py`; which of them
change results is the business of `fingerprint.py`.
"""

from luke_batch.config.heads import (
    EmbeddingsConfig,
    HeadConfig,
    LinksConfig,
    NerConfig,
    RelationsConfig,
    SourceColumn,
    SpanHeadConfig,
    TypesConfig,
)
from luke_batch.config.job import Head, JobConfig
from luke_batch.config.model import DEFAULT_MODEL, ModelConfig, Precision
from luke_batch.config.output import IsolationConfig, OutputConfig
from luke_batch.config.section import EMBEDDED, Proposer, Section
from luke_batch.config.text import (
    AliasConfig,
    GazetteerConfig,
    InputConfig,
    ProposerConfig,
    SegmenterConfig,
)
from luke_batch.config.text_heads import ChoiceConfig, ClozeConfig, QaConfig, SequenceConfig, TokensConfig

__all__ = [
    "DEFAULT_MODEL",
    "EMBEDDED",
    "AliasConfig",
    "ChoiceConfig",
    "ClozeConfig",
    "EmbeddingsConfig",
    "GazetteerConfig",
    "Head",
    "HeadConfig",
    "InputConfig",
    "IsolationConfig",
    "JobConfig",
    "LinksConfig",
    "ModelConfig",
    "NerConfig",
    "OutputConfig",
    "Precision",
    "Proposer",
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
