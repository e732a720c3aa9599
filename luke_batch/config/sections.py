"""The parts of the configuration that are about no head and no model: what is read, how texts are cut, how results are
committed and judged, and when a document is given up.
"""

from typing import Annotated, Literal

from pydantic import Field

from luke_batch.base.section import Section


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


class OutputConfig(Section):
    """How committed files are cut and judged."""

    max_rows: int = Field(default=1000, ge=1)
    """Most documents of a fragment, the unit of commit."""
    max_bytes: int = Field(default=16 * 2**20, ge=2**10)
    """Most uncompressed bytes of a fragment, by the file's footer."""
    compression: Literal["zstd", "snappy", "none"] = "zstd"
    """Codec of the output files."""
    error_budget: float = Field(default=0.01, ge=0)
    """Dead letters that a complete run may have: below 1 a share of documents, from 1 a count."""
    drift_limit: float | None = Field(default=None, gt=0, le=1)
    """Most that the shares of labels may differ from those of the baseline, as a Jensen-Shannon distance
    (0 to 1); a run beyond it ends with exit code 5. null: any.
    """
    drift_baseline: str | None = None
    """Id of the run that label shares are compared with; null: the last that ended with exit code 0, so that a lasting
    fault does not become its own measure.
    """
    on_vanished: Literal["keep", "prune"] = "keep"
    """Outputs whose source file is no longer in INPUT; prune: removed at the end of a complete run."""
    vanished_limit: float = Field(default=0.5, ge=0, le=1)
    """Share of the documents in OUTPUT that may vanish from INPUT between two runs; beyond it nothing is annotated or
    removed (exit code 4) without `--confirm-vanished`. 1: any.
    """
    lease_seconds: int = Field(default=60, ge=1)
    """So long after its last sign of life a run that crashed keeps others from OUTPUT."""
    shared: bool = False
    """A local OUTPUT is mounted on every node of the cluster."""


class IsolationConfig(Section):
    """When a document is given up, so that it costs no other."""

    seconds: float = Field(default=60, gt=0)
    """Longest time without progress for each 1,000 characters of a document; a shorter one has as much."""
    memory_gb: Literal["auto"] | Annotated[float, Field(gt=0)] | None = "auto"
    """What a process may take for its data; auto: half of the machine's (or container's) memory; null: any
    amount. Not applied to processes with a GPU.
    """
