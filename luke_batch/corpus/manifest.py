"""Run manifests, OUTPUT/_luke_batch/runs/<run id>.json: what a run did, and what that lets expect of the next.

The data files are the only truth.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self, cast

from luke_batch.corpus.outcome import Outcome
from luke_batch.corpus.plan import Plan
from luke_batch.corpus.storage import RUNS, Storage, join

Command = Literal["annotate", "replay"]

_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class RunManifest:
    """One run. Times are ISO 8601 in UTC, durations seconds."""

    run_id: str
    started: str
    finished: str | None
    """None while the run is under way, or was stopped."""
    input: str
    """As `recorded_input` gives it."""
    output: str
    fingerprint: str
    config: dict[str, Any]
    """As given but for `precision: auto`, which is decided here; without secrets."""
    planned: dict[str, dict[str, int]]
    """State -> files, fragments, rows, bytes."""
    outcome: dict[str, Any] | None = None
    """Fragments, documents, dead letters, what is missing; None without an end."""
    exit_code: int | None = None
    durations: dict[str, float] = field(default_factory=lambda: dict[str, float]())
    versions: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    models: dict[str, dict[str, str | None]] = field(default_factory=lambda: dict[str, dict[str, str | None]]())
    """Path of each checkpoint -> `weights`, its content hash, `revision`, the hub's commit, `precision`."""
    renamed: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    """Source columns that bore a name we write: old name -> new name."""
    figures: dict[str, Any] = field(default_factory=lambda: dict[str, Any]())
    """Whatever else the report shows."""
    command: Command = "annotate"
    """What was run."""
    forecast: dict[str, Any] | None = None
    """What the last run let expect of this one, see `Forecast`; after a complete run with `actual_seconds`
    and `ratio`. None where there was nothing to go by."""

    @classmethod
    def start(cls, run_id: str, input: str, plan: Plan, config: dict[str, Any], now: datetime) -> Self:
        """The manifest of a run that begins."""
        return cls(
            run_id=run_id,
            started=now.isoformat(timespec="seconds"),
            finished=None,
            input=recorded_input(input),
            output=without_secrets(plan.output.url),
            fingerprint=plan.fingerprint,
            config=cast("dict[str, Any]", json.loads(without_secrets(json.dumps(config)))),
            planned={state: asdict(tally) for state, tally in plan.tallies.items()},
        )

    @property
    def documents(self) -> int:
        """Documents that the run committed."""
        return int(self.figures.get("documents") or 0)

    @property
    def rate(self) -> float:
        """Documents a second of a finished run of `annotate`; 0 where it has none, and for a replay, which is all
        start-up.
        """
        seconds = self.durations.get("annotate") or 0.0
        return self.documents / seconds if self.command == "annotate" and self.finished and seconds > 0 else 0.0

    def finish(self, outcome: Outcome, exit_code: int, now: datetime) -> Self:
        """The same run at its end."""
        return replace(
            self,
            finished=now.isoformat(timespec="seconds"),
            outcome=cast("dict[str, Any]", json.loads(json.dumps(asdict(outcome)))) | {"complete": outcome.complete},
            exit_code=exit_code,
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long a plan will take, by what one finished run took; nothing is measured for it."""

    seconds: float
    documents_per_second: float
    """Of that run, the start of Ray and of the models included."""
    run_id: str
    documents: int
    """Documents that the run annotated: a rate from few of them is mostly start-up."""
    same_fingerprint: bool
    """Whether that run computed the same: another model may be many times slower or faster."""

    def compared(self, seconds: float) -> dict[str, Any] | None:
        """Its members, `actual_seconds` (what the work took, the start of Ray and of the models included) and
        `ratio`, how many times as long as expected; None for a forecast of no documents.
        """
        if not self.seconds:
            return None
        return {**asdict(self), "actual_seconds": round(seconds, 3), "ratio": round(seconds / self.seconds, 3)}


def new_run_id(now: datetime) -> str:
    """Sorts by time, to the microsecond, which are the first five hexadecimal digits of the second part; the
    others are random. `now` is in UTC.
    """
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{now.microsecond:05x}{secrets.token_hex(2)}"


def write_manifest(output: Storage, manifest: RunManifest) -> None:
    """Create or replace the manifest of its run."""
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
    output.write_atomic(join(RUNS, f"{manifest.run_id}.json"), text.encode())


def read_manifests(output: Storage) -> list[RunManifest]:
    """All runs of OUTPUT that can be read, oldest first; those of other versions are passed over."""
    return list(_newest_first(output))[::-1]


def latest_manifest(output: Storage, wanted: Callable[[RunManifest], bool]) -> RunManifest | None:
    """The newest run of OUTPUT that can be read and is `wanted`; manifests are read until it is found."""
    return next((manifest for manifest in _newest_first(output) if wanted(manifest)), None)


def forecast(plan: Plan) -> Forecast | None:
    """From the last finished run that annotated anything, one of the same fingerprint first; None without."""

    def same(run: RunManifest) -> bool:
        return run.fingerprint == plan.fingerprint and run.rate > 0

    run = latest_manifest(plan.output, same) or latest_manifest(plan.output, lambda run: run.rate > 0)
    if run is None:
        return None
    seconds = sum(item.rows for item in plan.items) / run.rate
    return Forecast(seconds, run.rate, run.run_id, run.documents, run.fingerprint == plan.fingerprint)


def recorded_input(input: str) -> str:
    """INPUT as a manifest names it: without secrets, and absolute, as the next command may be given in
    another folder.
    """
    is_local = "://" not in input or input.startswith("file://")
    return Storage.at(input).url if is_local else without_secrets(input)


def without_secrets(text: str) -> str:
    """`text` without the user and password of URLs."""
    return _USER_INFO.sub("", text)


def _newest_first(output: Storage) -> Iterator[RunManifest]:
    for file in reversed(output.list(".json", under=RUNS)):
        try:
            manifest = RunManifest(**json.loads(output.read_bytes(file.path)))
        except (OSError, TypeError, ValueError):  # damaged, or of another version
            continue
        yield manifest
