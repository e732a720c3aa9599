"""A report as one HTML file: no script, no request, nothing from a document that is not text.

The template escapes everything (Jinja's autoescape), and the page's own policy allows no script and no style
but the one that it brings, whose hash it names. displaCy, which draws entities for spaCy, was left aside: it
would bring spaCy along, knows neither nested mentions nor types and relations of ours, and draws in colours
that a dark page does not suit.
"""

import base64
import hashlib
import json
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from zlib import crc32

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from luke_batch.corpus.drift import LEAST
from luke_batch.report import charts, wording
from luke_batch.report.figures import Figures
from luke_batch.report.samples import Mark

_MOST_LABELS = 200
"""Labels of a kind that have a row."""
_COLOURS = 8
_KNOWN = {"PER": 0, "ORG": 1, "LOC": 2, "MISC": 3}
_KEPT_CONTROLS = "\t\n"


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a whole."""

    name: str
    seconds: float
    share: float


def render(figures: Figures, now: datetime | None = None) -> str:
    """The whole page; `now` (UTC) is told as the time at which it was made."""
    environment = Environment(
        loader=PackageLoader("luke_batch.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    environment.filters["seconds"] = wording.seconds
    environment.filters["bytes"] = wording.size
    environment.filters["colour"] = _colour
    environment.tests["mark"] = lambda value: isinstance(value, Mark)
    style = environment.get_template("report.css").render()
    page = environment.get_template("report.html")
    spent: dict[str, float] = figures.run.figures.get("spent") or {}
    tables = charts.label_tables(figures.statistics, figures.before)
    return page.render(
        figures=figures,
        run=figures.run,
        verdict=wording.verdict(figures.run),
        outcome=figures.run.outcome or {},
        removed=wording.removed(figures.run.figures.get("removed") or {}),
        states=wording.STATES,
        line=charts.throughput(figures.run.figures.get("throughput")),
        chart=(charts.WIDTH, charts.HEIGHT),
        phases=_bars({wording.PHASES[name]: value for name, value in wording.phases(figures.run).items()}),
        stages=_bars({wording.STAGES.get(name, f"model {name}"): value for name, value in spent.items()}),
        tables=tables,
        kinds={table.kind: table.total for table in tables},
        least=LEAST,
        most=_MOST_LABELS,
        limit=(figures.run.config.get("output") or {}).get("drift_limit"),
        settings=json.dumps(figures.run.config, indent=2, ensure_ascii=False),
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        version=version("luke-batch"),
        made=(now or datetime.now(UTC)).isoformat(sep=" ", timespec="seconds"),
    )


def _visible(value: Any) -> Any:
    """Control characters, which HTML does not allow, as U+FFFD: offsets stay what they are."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(
        "\ufffd" if unicodedata.category(each) in ("Cc", "Cs") and each not in _KEPT_CONTROLS else each
        for each in value
    )


def _colour(label: str | None) -> str:
    """The class of a label's colour, the same in every report."""
    if label is None:
        return "none"
    return f"c{_KNOWN.get(label, crc32(label.encode(errors='replace')) % _COLOURS)}"


def _bars(parts: dict[str, float]) -> list[Bar]:
    total = sum(parts.values()) or 1.0
    return [Bar(name, value, value / total) for name, value in parts.items()]
