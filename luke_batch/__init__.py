"""luke-batch: entity-aware annotation of Parquet corpora with LUKE and mLUKE on Ray.

Names are imported on first use, so that `import luke_batch` costs nothing: neither torch nor Ray.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luke_batch.annotate.annotator import Annotator
    from luke_batch.config import JobConfig
    from luke_batch.corpus.reader import read
    from luke_batch.distributed.dataset import annotate_dataset

__version__ = version("luke-batch")

__all__ = ["Annotator", "JobConfig", "__version__", "annotate_dataset", "read"]

_HOMES = {
    "Annotator": "luke_batch.annotate.annotator",
    "JobConfig": "luke_batch.config",
    "annotate_dataset": "luke_batch.distributed.dataset",
    "read": "luke_batch.corpus.reader",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
