"""Names of a job's stages, for figures."""

from collections.abc import Sequence

from luke_batch.annotate.annotator import StageSpec

READ_STAGE = "read"
TEXT_STAGE = "text"
"""The stage without a model: sentences, words, proposals."""
COMMIT_STAGE = "commit"


def named(stages: Sequence[StageSpec]) -> dict[str, StageSpec]:
    """By the name of the model; a model that comes again is numbered."""
    found: dict[str, StageSpec] = {}
    for number, spec in enumerate(stages, start=1):
        found[f"{spec.name} ({number})" if spec.name in found else spec.name] = spec
    return found
