"""The end of a run for a person or a program: a table, one JSON object, or one line where something is
wrong.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from luke_batch.corpus.drift import EXIT_CODE as DRIFT
from luke_batch.report.wording import plain, removed

_SHOWN = 5
"""Warnings, failures and missing fragments that the table lists one by one."""
_MOST_LABELS = 4
_NOTHING = {
    "annotate": "Nothing to do: all {:,} documents are committed already.",
    "replay": "Nothing to replay: no dead letter is of rows that INPUT still has and that can be read.",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run has done, and the state of OUTPUT after it."""

    run_id: str
    exit_code: int
    output: str
    planned: Mapping[str, int]
    """State of source files (new, changed, …) -> documents."""
    annotated: int
    """Documents that this run committed."""
    documents: int
    """Documents in the usable files of INPUT."""
    fragments: int
    """Committed fragments."""
    dead_documents: int
    dead_files: int
    missing: Sequence[str]
    """What is neither committed nor in the dead letters."""
    failures: Sequence[str]
    """Why something is missing."""
    warnings: Sequence[str]
    seconds: float
    nothing_to_do: bool
    command: str = "annotate"
    """What was run; `replay` is the other."""
    forecast: Mapping[str, Any] | None = None
    """Of a complete run, where an earlier one let expect something: `seconds`, `actual_seconds`, `ratio`,
    `run_id`, `documents`, `same_fingerprint`."""
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: dict[str, dict[str, int]]())
    """Kind (mentions, types, relations) -> label -> how many this run found, most first."""
    drift: Mapping[str, Any] | None = None
    """How far the label shares are from those of the baseline, see `Drift`."""
    removed: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    """What was taken out of OUTPUT, see `Removed`."""

    @property
    def verdict(self) -> str:
        """The state of OUTPUT in one sentence."""
        letters = f"{self.dead_documents:,} documents and {self.dead_files:,} files are in the dead letters"
        if self.missing:
            return f"incomplete: {len(self.missing):,} fragments are not committed; run the same command again"
        if refused := self.removed.get("refused"):
            return (
                f"complete, but {refused:,} files of OUTPUT cannot be removed; once they can, the same command goes on"
            )
        if self.exit_code == DRIFT:
            return f"complete, but {_drift(self.drift or {})}: more than output.drift_limit allows"
        if self.exit_code:
            return f"complete, but {letters}: more than output.error_budget allows"
        return f"complete; {letters}" if self.dead_documents or self.dead_files else "complete"


def to_json(summary: Summary) -> str:
    """One JSON object on one line."""
    return json.dumps({**asdict(summary), "verdict": summary.verdict}, ensure_ascii=False)


def print_summary(summary: Summary, console: Console) -> None:
    """A table of figures, then warnings, then the verdict."""
    if summary.nothing_to_do:
        _line(console, Text(_NOTHING[summary.command].format(summary.documents)))
    else:
        for name, value in _figures(summary):
            _line(console, Text.assemble((f"{name:<14}", "dim"), value))
    if said := removed(summary.removed):
        _line(console, Text.assemble((f"{'removed':<14}", "dim"), said))
    for heading, lines in (
        ("warning", summary.warnings),
        ("failed", summary.failures),
        ("missing", summary.missing),
    ):
        for line in lines[:_SHOWN]:
            _line(console, Text.assemble((f"{heading}: ", "yellow"), plain(line)))
        if len(lines) > _SHOWN:
            _line(console, Text.assemble((f"{heading}: ", "yellow"), f"and {len(lines) - _SHOWN:,} more"))
    style = "bold red" if summary.missing else "bold yellow" if summary.exit_code else "bold green"
    _line(console, Text(summary.verdict, style=style))


def _line(console: Console, line: Text) -> None:
    """Never wrapped: paths and messages are there to be copied and searched."""
    console.print(line, soft_wrap=True)


def _figures(summary: Summary) -> Iterator[tuple[str, str]]:
    planned = ", ".join(f"{rows:,} {state}" for state, rows in summary.planned.items() if rows)
    rate = summary.annotated / summary.seconds if summary.seconds else 0
    yield "documents", f"{summary.documents:,} in INPUT ({planned or 'none'})"
    yield (
        "annotated",
        f"{summary.annotated:,} in {summary.seconds:,.1f} s, {rate:,.1f} a second with start-up",
    )
    if summary.forecast is not None:
        yield "forecast", _forecast(summary.forecast)
    for kind, labels in summary.labels.items():
        if labels:
            yield kind, _labels(labels)
    if summary.drift is not None and summary.drift["kinds"]:
        yield "drift", f"{_drift(summary.drift)} (Jensen-Shannon distance, 0 to 1)"
    yield "dead letters", f"{summary.dead_documents:,} documents, {summary.dead_files:,} files"
    yield "output", f"{summary.fragments:,} fragments in {summary.output}"
    yield "run", f"{summary.run_id} (luke-batch report {summary.output} --html FILE shows more)"


def _forecast(figures: Mapping[str, Any]) -> str:
    other = "" if figures["same_fingerprint"] else ", which had another model or settings"
    return (
        f"{figures['seconds']:,.1f} s, took {figures['actual_seconds']:,.1f} s: {figures['ratio']:,.2f} times"
        f" as long (by run {figures['run_id']}, {figures['documents']:,} documents{other})"
    )


def _labels(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    most = list(counts.items())[:_MOST_LABELS]
    shares = ", ".join(f"{plain(label)} {count / total:.0%}" for label, count in most)
    more = f", {len(counts) - len(most):,} more" if len(counts) > len(most) else ""
    return f"{total:,} ({shares}{more})"


def _drift(drift: Mapping[str, Any]) -> str:
    parts = [f"{kind} by {each['distance']:.3f}" for kind, each in drift.get("kinds", {}).items()]
    return f"label shares differ from run {drift.get('baseline')}: {', '.join(parts)}"
