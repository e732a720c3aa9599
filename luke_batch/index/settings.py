"""What is an entity, how its vector is made, and how it is searched: the settings that an index records."""

import hashlib
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from luke_batch.base.section import Section

KeyKind = Literal["qid", "title", "surface"]
VectorColumn = Literal["mention_embeddings", "entity_embeddings"]
PARTIALS_VERSION = 1
"""Counted up by hand where partial aggregates of the same policy come out another way."""


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Policy(Section):
    """What partial aggregates depend on. An index has one policy for ever."""

    column: VectorColumn = "mention_embeddings"
    """Column with one vector for each mention."""
    keys: Annotated[tuple[KeyKind, ...], BeforeValidator(_listed), Field(min_length=1)] = (
        "qid",
        "title",
        "surface",
    )
    """What names an entity: the first of these that a mention has. `surface` is surface and label."""
    case: Literal["fold", "keep"] = "fold"
    """fold: surfaces that differ in case alone are one entity."""
    normalise: bool = False
    """Scale the vector of each mention to length 1 before the mean is taken."""
    id_column: str = "id"
    """Column that names a document in contexts; without such a column they are named `<file>#<row>`."""
    text_column: str = "text"
    """Column with the text; without it contexts hold the mention alone."""
    lang_column: str | None = "lang"
    """Column with the language of a document; without such a column entities have no languages."""
    contexts: int = Field(default=3, ge=0, le=100)
    """Sample contexts of an entity."""
    context_characters: int = Field(default=60, ge=0, le=10_000)
    """Characters of a context on each side of the mention."""

    @property
    def fingerprint(self) -> str:
        """Names this policy in files of partial aggregates."""
        text = f"{PARTIALS_VERSION} {self.model_dump_json()}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


Variant = Literal["auto", "exact", "IVF_FLAT", "IVF_SQ", "IVF_PQ", "IVF_RQ", "IVF_HNSW_FLAT", "IVF_HNSW_SQ"]


class SearchSettings(Section):
    """How vectors are indexed and searched; another night may have other values."""

    kind: Literal["lance", "faiss"] = "lance"
    """lance: a Lance table with all columns that are searched; faiss: a file that FAISS reads."""
    variant: Variant = "auto"
    """auto: exact search below 20,000 entities, IVF_FLAT above. FAISS: exact and IVF_FLAT alone."""
    partitions: int | None = Field(default=None, ge=1)
    """Cells of the inverted file; null: the power of two nearest to the root of the number of entities."""
    probes: int | None = Field(default=None, ge=1)
    """Cells that a query looks into; null: 16, or a 64th of the cells where that is more."""
    recall_floor: float = Field(default=0.9, ge=0, le=1)
    """A build warns where recall@10 falls below."""
    recall_sample: int = Field(default=100, ge=0)
    """Entities that recall is measured on; 0: it is not measured."""
    aliases: int = Field(default=100, ge=1)
    """Most aliases of an entity in the table, those that occur most. Partial aggregates keep all."""


class IndexConfig(Section):
    """A whole build."""

    policy: Policy = Policy()
    search: SearchSettings = SearchSettings()
