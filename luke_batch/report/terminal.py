"""A report on a terminal: the figures of the page, without documents. Nothing that OUTPUT holds steers the
terminal (see `plain`).
"""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from luke_batch.corpus.drift import LEAST
from luke_batch.report import wording
from luke_batch.report.charts import LabelTable, label_tables, throughput
from luke_batch.report.figures import Figures
from luke_batch.report.wording import plain

_MOST_LABELS = 12
_SPARKS = " ▁▂▃▄▅▆▇█"
_STYLES = {"ok": "bold green", "warn": "bold yellow", "bad": "bold red"}


def print_report(figures: Figures, console: Console) -> None:
    """Everything but documents."""
    for name, value in _facts(figures):
        console.print(Text.assemble((f"{name:<14}", "dim"), plain(value)), soft_wrap=True)
    _print_planned(figures, console)
    for table in label_tables(figures.statistics, figures.before):
        _print_labels(table, console, figures.before is not None)
    _print_dead(figures, console)
    console.print()
    for note in figures.notes:
        console.print(Text.assemble(("note: ", "yellow"), plain(note)), soft_wrap=True)
    state, words = wording.verdict(figures.run)
    console.print(Text(words, style=_STYLES[state]), soft_wrap=True)


def _facts(figures: Figures) -> Iterator[tuple[str, str]]:
    run = figures.run
    yield "run", f"{run.run_id} ({run.command}), {run.started} to {run.finished or 'no end'}"
    yield "input", run.input
    yield "output", figures.output
    yield "fingerprint", run.fingerprint
    for path, model in run.models.items():
        yield "model", wording.model(path, model)
    yield "versions", ", ".join(f"{name} {number}" for name, number in run.versions.items())
    yield "documents", f"{figures.committed:,} committed by this run"
    outcome = run.outcome
    if outcome:
        yield "dead letters", f"{outcome['dead_documents']:,} documents, {outcome['dead_files']:,} files"
        yield "missing", f"{len(outcome['missing']):,} row ranges"
    if said := wording.removed(run.figures.get("removed") or {}):
        yield "removed", said
    line = throughput(run.figures.get("throughput"))
    if figures.work_seconds and figures.committed:
        mean = figures.committed / figures.work_seconds
        most = "" if line is None else f", {line.peak:,.1f} at most"
        yield "rate", f"{mean:,.1f} documents a second while annotating{most}"
    phases = wording.phases(run)
    if phases:
        yield "time", ", ".join(f"{wording.PHASES[n]} {wording.seconds(v)}" for n, v in phases.items())
    spent: dict[str, float] = run.figures.get("spent") or {}
    if spent:
        total = sum(spent.values()) or 1
        yield "work", ", ".join(f"{name} {value / total:.0%}" for name, value in spent.items())
    yield from _coverage(figures)
    yield "drift", _drift(figures)


def _coverage(figures: Figures) -> Iterator[tuple[str, str]]:
    if figures.statistics is None or not figures.statistics.coverage:
        return
    counts = figures.statistics.coverage.items()
    yield "coverage", ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts)
    dropped = figures.statistics.dropped.most_common()
    yield "left out", ", ".join(f"{count:,} {reason}" for reason, count in dropped) or "nothing"


def _drift(figures: Figures) -> str:
    drift = figures.drift
    if drift is None:
        return "not measured: there is no earlier run whose labels are known"
    if not drift.kinds:
        return f"against {drift.baseline}: no kind has {LEAST} labels in both runs"
    parts = [f"{kind} {each.distance:.3f} (chance {each.chance:.3f})" for kind, each in drift.kinds.items()]
    other = "" if drift.same_fingerprint else ", which had another model or settings"
    return f"{', '.join(parts)} against {drift.baseline}{other}"


def _print_planned(figures: Figures, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("planned", "files", "fragments", "documents", "bytes"):
        table.add_column(heading, justify="left" if heading == "planned" else "right")
    for state, tally in figures.run.planned.items():
        if tally["files"]:
            counts = (f"{tally[name]:,}" for name in ("files", "fragments", "rows"))
            table.add_row(Text(plain(state)), *counts, wording.size(tally["bytes"]))
    console.print()
    console.print(table)


def _print_labels(labels: LabelTable, console: Console, compared: bool) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column(labels.kind, overflow="fold")
    headings = ["count", "share", *(["before"] if compared else []), "mean"]
    for heading in headings:
        table.add_column(heading, justify="right")
    table.add_column("scores 0 to 1")
    for row in labels.rows[:_MOST_LABELS]:
        before = [] if not compared else ["" if row.before is None else f"{row.before:.1%}"]
        mean = "" if row.mean is None else f"{row.mean:.2f}"
        bars = "".join(_SPARKS[-int(-height * (len(_SPARKS) - 1) // 1)] for _, height, _ in row.bars)
        table.add_row(Text(plain(row.label)), f"{row.count:,}", f"{row.share:.1%}", *before, mean, bars)
    if len(labels.rows) > _MOST_LABELS:
        rest = labels.rows[_MOST_LABELS:]
        table.add_row(f"{len(rest):,} others", f"{sum(row.count for row in rest):,}")
    console.print()
    console.print(table)


def _print_dead(figures: Figures, console: Console) -> None:
    if not figures.dead:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("dead letters", justify="right")
    for heading in ("stage", "error", "for example"):
        table.add_column(heading, overflow="fold")
    for each in figures.dead:
        letter = each.examples[0]
        where = letter["source"] if letter["row"] is None else f"{letter['source']}, row {letter['row']}"
        example = plain(f"{where}: {letter['message']}")
        table.add_row(f"{each.count:,}", Text(each.stage), Text(each.error_class), Text(example))
    console.print()
    console.print(table)
