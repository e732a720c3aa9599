"""The tables of the engines, as Markdown."""

from collections.abc import Mapping, Sequence

from benchmarks.measure import Row
from benchmarks.page import circumstances, markdown
from luke_batch.config import Precision


def heading(rounds: int) -> str:
    """When, where and with what."""
    return (
        f"{circumstances('torch', 'transformers')}; one thread, CPU time, medians of {rounds} rounds in"
        " which all ways take turns."
    )


def table(title: str, half: Precision, rows: Mapping[str, Sequence[Row]]) -> str:
    """One model's rows, by their tasks, under its title; sorted batches were compared in `half`."""
    columns = ["task (an item)", "way", "ms an item", "times faster", f"over sorted {half}"]
    columns += ["max. difference", "agreement", "no padding", "rate"]
    lines: list[list[str]] = []
    for name, found in rows.items():
        for row in found:
            cells = [name, row.arm, f"{row.milliseconds:.1f}", f"{row.ratio:.2f}", f"{row.over_sorted:.2f}"]
            cells.append("–" if row.difference is None else f"{row.difference:.0e}")
            shares = (row.agreement, row.padding, row.rate)
            cells += [
                "–" if share is None else f"{share:.{digits}%}" for share, digits in zip(shares, (2, 0, 0), strict=True)
            ]
            lines.append(cells)
    return f"### {title}\n\n{markdown(columns, lines)}"
