"""Where tables stand in docs/benchmarks.md: each command between two markers of its own."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def put(page: Path, name: str, content: str) -> None:
    """Put `content` between the markers `<!-- NAME: start -->` and `<!-- NAME: end -->` of `page`."""
    start, end = (f"<!-- {name}: {edge} -->" for edge in ("start", "end"))
    before, rest = page.read_text(encoding="utf-8").split(start)
    after = rest.split(end)[1]
    page.write_text(f"{before}{start}\n\n{content}\n\n{end}{after}", encoding="utf-8")


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def circumstances(*libraries: str) -> str:
    """When, where and with what something was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    return f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {versions}"


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
