"""What is read, how texts are cut, and what proposes spans."""

from typing import Literal

from pydantic import Field

from luke_batch.config.section import EMBEDDED, Section


class InputConfig(Section):
    """Which columns of INPUT are read."""

    id_column: str | None = "id"
    """Column that names a document in reports and dead letters (string or integer); null: `<path>#<row>`."""
    text_column: str = "text"
    """Column with the text: string, large_string, string_view or a dictionary of these."""
    lang_column: str | None = None
    """Column, or key of a hive partition, with language codes (ISO 639 or BCP-47); null: the segmenter goes
    by script.
    """
    mentions_column: str | None = None
    """Column with given mentions: list<struct<start, end, …>>, code points. A string field `label` is kept
    where the job has no `ner` head, and `title` where it has no `links` head; `candidates`, a list of titles,
    are what `links` may choose from.
    """
    relations_column: str | None = None
    """Column with given pairs: list<struct<head, tail, …>>, indices into `mentions_column`."""


class SegmenterConfig(Section):
    """How texts are cut into sentences."""

    name: Literal["sentencex"] = "sentencex"
    """Segmenter to use."""
    max_characters: int = Field(default=1000, ge=16)
    """Longer sentences are split at the best boundary."""


class GazetteerConfig(Section):
    """The names table of the `gazetteer` proposer."""

    path: str
    """Parquet or CSV file with one name a row, local or `s3://`."""
    column: str = "name"
    """Column that holds the names."""
    case: Literal["exact", "fold", "smart"] = "smart"
    """exact; fold: case is ignored; smart: ignored except for names of at most three characters or all
    upper case.
    """
    content_hash: str | None = None
    """SHA-256 that the file must have, as 64 hexadecimal digits; null: any. A run tells it to its workers, so
    that all of them read what was planned.
    """


class AliasConfig(Section):
    """The alias table: which names stand for which titles, and how often."""

    path: str = EMBEDDED
    """Parquet file with the columns name, title, count and, where known, qid, local or `s3://`; `embedded`:
    that of the embedded model's entity vocabulary.
    """
    min_prior: float = Field(default=0, ge=0, le=1)
    """Titles that fewer of a name's links lead to (as a share) are no candidates."""
    content_hash: str | None = None
    """SHA-256 that the file must have, as of the gazetteer; null: any."""


class ProposerConfig(Section):
    """Limits and tables of the span proposers."""

    max_words: int | None = Field(default=None, ge=1, le=64)
    """Longest span of `all` and `auto` in words; null: what the checkpoint was trained with, else 16."""
    gazetteer: GazetteerConfig | None = None
    """Needed by `spans: gazetteer`."""
    aliases: AliasConfig = AliasConfig()
    """Used by `spans: alias`, and by `links` for its candidates."""
