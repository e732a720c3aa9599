"""Numbers, outcomes and names in words, alike on the terminal and in HTML; and texts of documents that a terminal shows
instead of obeying.
"""

import unicodedata
from collections.abc import Mapping
from typing import Any

from luke_batch.base.errors import IncompleteError
from luke_batch.corpus.drift import EXIT_CODE as DRIFT
from luke_batch.corpus.manifest import RunManifest

STATES = {
    "new": "new in INPUT",
    "changed": "changed since they were annotated",
    "stale": "annotated under another fingerprint",
    "done": "committed before",
    "bad": "cannot be used",
    "vanished": "no longer in INPUT",
    "replayed": "dead letters tried again",
}
STAGES = {
    "read": "reading",
    "text": "sentences, words and proposals",
    "commit": "checking and committing",
}
PHASES = {
    "plan": "planning",
    "start": "start of Ray and checks",
    "work": "annotating",
    "finish": "judging and tidying OUTPUT",
}
_PROPERTIES = {
    "P569": "date of birth",
    "P570": "date of death",
    "P571": "inception",
    "P576": "dissolved on",
    "P577": "publication date",
    "P580": "start time",
    "P582": "end time",
    "P585": "point in time",
}


def verdict(run: RunManifest) -> tuple[str, str]:
    """Whether a run was good, as `ok`, `warn` or `bad`, and why in one sentence."""
    if run.exit_code is None:
        return "bad", "not finished: under way, or stopped"
    if run.exit_code == IncompleteError.exit_code:
        return "bad", "incomplete: the same command goes on"
    if run.exit_code == DRIFT:
        return "warn", "complete, but label shares have drifted beyond output.drift_limit"
    if run.exit_code:
        return "warn", "complete, but more dead letters than output.error_budget allows"
    return "ok", "complete"


def removed(counts: Mapping[str, Any]) -> str:
    """What a run took out of OUTPUT, as `Removed` counts it; "" for nothing."""
    words = {
        "vanished": f"{counts.get('vanished', 0):,} files of sources that are gone, with"
        f" {counts.get('vanished_documents', 0):,} documents and {counts.get('vanished_letters', 0):,} dead letters",
        "superseded": f"{counts.get('superseded', 0):,} superseded files",
        "damaged": f"{counts.get('damaged', 0):,} torn or abandoned files",
        "foreign": f"{counts.get('foreign', 0):,} files of no run, moved to _foreign",
        "left": f"{counts.get('left', 0):,} more are left to the next run",
        "refused": f"{counts.get('refused', 0):,} cannot be removed ({counts.get('cause')})",
    }
    return "; ".join(text for name, text in words.items() if counts.get(name))


def seconds(value: float) -> str:
    """A time for people."""
    if value < 120:
        return f"{value:,.1f} s"
    return f"{value / 60:,.1f} min" if value < 7200 else f"{value / 3600:,.1f} h"


def duration(value: float) -> str:
    """A rough time for people, as of a forecast."""
    if value < 90:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 90 * 60 else f"{value / 3600:,.1f} h"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def phases(run: RunManifest) -> dict[str, float]:
    """Wall-clock seconds of the parts of a run, those that it recorded."""
    found = dict(run.durations)
    if "annotate" in found:
        found["work"] = max(found["annotate"] - found.get("start", 0.0), 0.0)
    return {name: found[name] for name in PHASES if name in found}


def model(path: str, found: Mapping[str, str | None]) -> str:
    """A checkpoint as a manifest records it."""
    revision = f", revision {found['revision']}" if found.get("revision") else ""
    precision = f", {found['precision']}" if found.get("precision") else ""
    return f"{path}{revision}{precision}, weights {found.get('weights')}"


def relation_name(label: str) -> str:
    """The name of a Wikidata property; any other label is its own name."""
    return _PROPERTIES.get(label, label)


def plain(text: str, keep: str = "") -> str:
    """`text` with control and bidirectional override characters as their codes; `keep`: those that stay."""
    return "".join(each if each in keep or not _steers(each) else _escape(each) for each in text)


def _steers(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs") or unicodedata.bidirectional(character) in (
        *("LRE", "RLE", "LRO", "RLO", "PDF"),
        *("LRI", "RLI", "FSI", "PDI"),
    )


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
