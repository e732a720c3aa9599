"""How long a plan will take, by what the last finished run took. Nothing is measured for it."""

from dataclasses import dataclass

from luke_batch.corpus.manifest import RunManifest, latest_manifest
from luke_batch.corpus.plan import Plan

_ANNOTATE = "annotate"


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
    """Documents a second of a finished run; 0 where it has none."""
    seconds = run.durations.get(_ANNOTATE) or 0.0
    return _documents(run) / seconds if run.finished and seconds > 0 else 0.0
