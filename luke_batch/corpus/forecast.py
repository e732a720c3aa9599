"""How long a plan will take, by what the last finished run took. Nothing is measured for it."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from luke_batch.corpus.manifest import RunManifest, latest_manifest
from luke_batch.corpus.plan import Plan

_ANNOTATE = "annotate"
"""The command whose runs count, as a replay of few documents is all start-up; and the duration that does."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """An extrapolation from one run."""

    seconds: float
    documents_per_second: float
    """Of that run, the start of Ray and of the models included."""
    run_id: str
    documents: int
    """Documents that the run annotated: a rate from few of them is mostly start-up."""
    same_fingerprint: bool
    """Whether that run computed the same: another model may be many times slower or faster."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A forecast beside what came of it."""

    forecast: Forecast
    seconds: float
    """What the work took, the start of Ray and of the models included."""

    @classmethod
    def of(cls, forecast: Forecast | None, seconds: float) -> Self | None:
        """None where there was no forecast, or one of no documents."""
        return None if forecast is None or not forecast.seconds else cls(forecast, seconds)

    @property
    def ratio(self) -> float:
        """How many times as long as expected."""
        return self.seconds / self.forecast.seconds

    def figures(self) -> dict[str, Any]:
        """The members of the forecast, `actual_seconds` and `ratio`."""
        return {
            **asdict(self.forecast),
            "actual_seconds": round(self.seconds, 3),
            "ratio": round(self.ratio, 3),
        }


def forecast(plan: Plan) -> Forecast | None:
    """From the last finished run that annotated anything, one of the same fingerprint first; None without."""

    def same(run: RunManifest) -> bool:
        return run.fingerprint == plan.fingerprint and _rate(run) > 0

    run = latest_manifest(plan.output, same) or latest_manifest(plan.output, lambda run: _rate(run) > 0)
    if run is None:
        return None
    documents = sum(item.rows for item in plan.items)
    rate = _rate(run)
    return Forecast(
        seconds=documents / rate,
        documents_per_second=rate,
        run_id=run.run_id,
        documents=_documents(run),
        same_fingerprint=run.fingerprint == plan.fingerprint,
    )


def _documents(run: RunManifest) -> int:
    return int(run.figures.get("documents") or 0)


def _rate(run: RunManifest) -> float:
    """Documents a second of a finished run of `annotate`; 0 where it has none."""
    seconds = run.durations.get(_ANNOTATE) or 0.0
    counts = run.command == _ANNOTATE and run.finished and seconds > 0
    return _documents(run) / seconds if counts else 0.0
