"""Numbers and outcomes in words, alike on the terminal and in HTML."""

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


def seconds(value: float) -> str:
    """A time for people."""
    if value < 120:
        return f"{value:,.1f} s"
    return f"{value / 60:,.1f} min" if value < 7200 else f"{value / 3600:,.1f} h"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def phases(run: RunManifest) -> dict[str, float]:
    """Wall-clock seconds of the parts of a run, those that it recorded."""
    durations = run.durations
    start = durations.get("start", 0.0)
    found = {
        "plan": durations.get("plan"),
        "start": durations.get("start"),
        "work": None if "annotate" not in durations else max(durations["annotate"] - start, 0.0),
        "finish": durations.get("finish"),
    }
    return {name: value for name, value in found.items() if value is not None}


def outcome(run: RunManifest) -> Mapping[str, Any]:
    """What the end of a run found in OUTPUT; empty where it has none."""
    return run.outcome or {}
