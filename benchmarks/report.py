"""The tables of a run, as Markdown, and their place in docs/benchmarks.md."""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Row
from luke_batch.config import Precision

START, END = "<!-- benchmarks: start -->", "<!-- benchmarks: end -->"


def heading(rounds: int) -> str:
    """When, where and with what."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, one thread, {libraries}; CPU time, medians of "
        f"{rounds} rounds in which all ways take turns."
    )


def table(title: str, half: Precision, rows: Mapping[str, Sequence[Row]]) -> str:
    """One model's rows, by their tasks, under its title; sorted batches were compared in `half`."""
    columns = ("task (an item)", "way", "ms an item", "times faster", f"over sorted {half}")
    columns = (*columns, "max. difference", "agreement", "no padding", "rate")
    lines = [f"### {title}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, found in rows.items():
        for row in found:
            cells = [name, row.arm, f"{row.milliseconds:.1f}", f"{row.ratio:.2f}", f"{row.over_sorted:.2f}"]
            cells.append("–" if row.difference is None else f"{row.difference:.0e}")
            shares = (row.agreement, row.padding, row.rate)
            cells += [
                "–" if share is None else f"{share:.{digits}%}"
                for share, digits in zip(shares, (2, 0, 0), strict=True)
            ]
            lines.append(f"| {' | '.join(cells)} |")
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
