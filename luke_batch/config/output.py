"""How results are committed and judged, and when a document is given up."""

from typing import Annotated, Literal

from pydantic import Field

from luke_batch.config.section import Section


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
    """Most that the shares of labels may differ from those of the run before, as a Jensen-Shannon distance
    (0 to 1); a run beyond it ends with exit code 5. null: any.
    """
    on_vanished: Literal["keep", "prune"] = "keep"
    """Outputs whose source file is no longer in INPUT; prune: removed at the end of a complete run."""
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
