"""The whole of an evaluation: two locations in, one result out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from luke_batch.evaluation.calibration import check_libraries, expected_calibration_error
from luke_batch.evaluation.documents import Annotated, Gold, read_annotated, read_gold
from luke_batch.evaluation.tables import CONFIDENCE_LEVEL, Task

if TYPE_CHECKING:
    from luke_batch.evaluation.scores import Intervals, TaskScores


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores, and what they rest on."""

    task: Task
    scores: "TaskScores"
    intervals: "Intervals | None"
    resamples: int
    unscored: dict[str, int]
    """Labels of ANNOTATED that GOLD lacks, with the predictions that no score counts; most first."""
    calibration_error: float | None
    """Expected calibration error of the scores; None where ANNOTATED has no scores."""
    gold: Gold
    annotated: Annotated

    @property
    def missing(self) -> int:
        """Documents of GOLD that ANNOTATED lacks."""
        return len(self.gold.ids) - self.annotated.documents

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON has it: fractions from 0 to 1, null for what means nothing."""
        scores = asdict(self.scores)
        return {
            "task": self.task,
            "micro": scores["micro"],
            "macro": scores["macro"],
            "accuracy": self.scores.accuracy,
            "labels": scores["labels"],
            "confidence": None
            if self.intervals is None
            else {"level": CONFIDENCE_LEVEL, "resamples": self.resamples, **asdict(self.intervals)},
            "calibration_error": self.calibration_error,
            "documents": {
                "gold": len(self.gold.ids),
                "annotated": self.annotated.documents,
                "missing": self.missing,
                "failed": self.annotated.failed,
                "unknown": self.annotated.unknown,
            },
            "unscored": self.unscored,
            "skipped": self.gold.skipped,
            "repeated": self.gold.repeated,
            "texts_compared": self.annotated.texts_compared,
        }


def evaluate(
    gold: str,
    annotated: str,
    task: Task,
    labels: Sequence[str] = (),
    *,
    id_column: str = "id",
    text_column: str = "text",
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Score the documents of `annotated` against those of `gold`.

    Both are files, folders or globs of Parquet, local or `s3://`; `annotated` may be the OUTPUT of a job.
    `labels`: those to score; none: those that occur in GOLD.

    Raises:
        UsageError: what the readers raise, an unknown label, a library that is not installed.
    """
    check_libraries()
    from luke_batch.evaluation.scores import compare, intervals, score

    right = read_gold(gold, task, id_column, text_column)
    found = read_annotated(annotated, right, task, id_column, text_column)
    comparison = compare(task, right.items, found.items, len(right.ids), labels)
    confidences = comparison.confidences
    return Evaluation(
        task=task,
        scores=score(comparison),
        intervals=intervals(comparison, len(right.ids), resamples, seed),
        resamples=resamples,
        unscored=comparison.unscored,
        calibration_error=expected_calibration_error(confidences, comparison.right) if len(confidences) else None,
        gold=right,
        annotated=found,
    )
