"""The tables of a run, as Markdown, and their place in docs/benchmarks.md."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Row
from luke_batch.model.engine import Task

START, END = "<!-- benchmarks: start -->", "<!-- benchmarks: end -->"
NAMES = {
    Task.ENTITY: "entity typing (a mention)",
    Task.PAIR: "relations (a pair)",
    Task.MENTIONS: "mention embeddings (a sentence)",
    Task.SPANS: "NER, all spans up to 16 words (a window of at most 128 spans)",
}


def heading(rounds: int) -> str:
    """When, where and with what."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, one thread, {libraries}; CPU time, medians of "
        f"{rounds} rounds in which all ways take turns."
    )


def table(title: str, rows: Sequence[Row]) -> str:
    """One model's rows under its title."""
    columns = ("task (an item)", "way", "ms an item", "times faster", "max. difference", "agreement")
    columns = (*columns, "no padding", "rate")
    lines = [f"### {title}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        agreement = "–" if row.task is Task.MENTIONS else f"{row.agreement:.2%}"
        lines.append(
            f"| {NAMES[row.task]} | {row.arm} | {row.milliseconds:.1f} | {row.ratio:.2f} "
            f"| {row.difference:.0e} | {agreement} | {row.padding:.0%} | {row.rate:.0%} |"
        )
    return "\n".join(lines)


def write(page: Path, content: str) -> None:
    """Put `content` between the markers of `page`."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    page.write_text(f"{before}{START}\n\n{content}\n\n{END}{after}", encoding="utf-8")


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
