"""An evaluation for a person: a table of percentages, then what they rest on."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from luke_batch.evaluation.evaluate import Evaluation
from luke_batch.evaluation.scores import Interval, LabelScore

_SHOWN = 50
"""Labels that the table lists, most frequent first; JSON has all."""

_NAMED = 8
"""Labels that a warning lists."""
_LABEL_WIDTH = 30
"""Characters of a label that the table shows: the figures take up the rest of 80."""


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Scores in percent, F1 and accuracy with their intervals; then counts and warnings."""
    scores, intervals = evaluation.scores, evaluation.intervals
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(evaluation.task, no_wrap=True, max_width=_LABEL_WIDTH)
    for name in ("precision", "recall", "F1", "support"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("micro", *_cells(scores.micro, intervals and intervals.micro["f1"]), style="bold")
    table.add_row("macro", *_cells(scores.macro, intervals and intervals.macro["f1"]))
    frequent = sorted(scores.labels.items(), key=lambda entry: (-entry[1].support, entry[0]))
    for label, score in frequent[:_SHOWN]:
        table.add_row(Text(label), *_cells(score, intervals and intervals.labels[label]))
    console.print(table)
    if len(frequent) > _SHOWN:
        console.print(f"and {len(frequent) - _SHOWN:,} more labels (--json lists all)")
    for name, value in _figures(evaluation):
        console.print(Text.assemble((f"{name:<18}", "dim"), value), soft_wrap=True)
    for line in _warnings(evaluation):
        console.print(Text.assemble(("warning: ", "yellow"), line), soft_wrap=True)


def _cells(score: LabelScore, interval: Interval | None) -> list[str]:
    """The interval is that of F1: three of them do not fit on a terminal."""
    figures = [_percent(score.precision, None), _percent(score.recall, None), _percent(score.f1, interval)]
    return [*figures, f"{score.support:,}"]


def _percent(value: float, interval: Interval | None) -> str:
    between = "" if interval is None else f" [{100 * interval[0]:.1f}–{100 * interval[1]:.1f}]"
    return f"{100 * value:.1f}{between}"


def _figures(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    intervals = evaluation.intervals
    if evaluation.scores.accuracy is not None:
        yield "accuracy", _percent(evaluation.scores.accuracy, intervals.accuracy if intervals else None)
    if evaluation.calibration_error is not None:
        yield "calibration error", f"{evaluation.calibration_error:.3f}"
    yield "documents", f"{len(evaluation.gold.ids):,} of GOLD, {evaluation.annotated.documents:,} annotated"
    if intervals:
        yield "intervals", f"95%, bootstrap of documents, {evaluation.resamples:,} resamples"


def _warnings(evaluation: Evaluation) -> Iterator[str]:
    annotated, gold = evaluation.annotated, evaluation.gold
    if evaluation.unscored:
        names = ", ".join(list(evaluation.unscored)[:_NAMED])
        more = f" and {len(evaluation.unscored) - _NAMED} more" if len(evaluation.unscored) > _NAMED else ""
        yield (
            f"{sum(evaluation.unscored.values()):,} predictions are left out: GOLD has none of their labels"
            f" ({names}{more}); --labels scores them as wrong"
        )
    for reason, count in gold.skipped.items():
        yield f"{count:,} rows of GOLD left out: {reason}"
    counts = {
        "documents of GOLD are not in ANNOTATED: all of their items count as missed": evaluation.missing,
        "documents have no annotation (null): all of their items count as missed": annotated.failed,
        "documents of ANNOTATED are not in GOLD: ignored": annotated.unknown,
        "items of GOLD stand there more than once: each counts once": gold.repeated,
    }
    yield from (f"{count:,} {what}" for what, count in counts.items() if count)
    if not annotated.texts_compared:
        yield "ANNOTATED has no text column: that its texts are those of GOLD is not checked"
