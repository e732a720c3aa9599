"""What `meters` has counted, as metrics of Ray: on every node's metrics port, for Prometheus to fetch.

The counts of a work item travel with it, and the driver exports them once it is committed: a worker that Ray ends would
take what it had not yet reported along, and a work item that is tried twice would count twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from ray.util.metrics import Counter, Gauge

from luke_batch.corpus.plan import Plan
from luke_batch.distributed.results import ItemResult
from luke_batch.distributed.wire import Readings

PREFIX = "luke_batch_"

_peaks: "dict[tuple[Metric, tuple[tuple[str, str], ...]], float]" = {}
"""The largest value of each gauge, by metric and labels."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric; `name` is that of `meters`, or the driver's own."""

    name: str
    about: str
    label: str | None = None
    """What it is counted by, beside the model."""
    kind: Literal["counter", "gauge"] = "counter"
    by_model: bool = True
    """It has the label `model`: a name in `models`, numbered where it comes again; empty for the tasks beside actors.
    """

    @property
    def exported(self) -> str:
        """Its name in Prometheus: Ray writes `ray_` before it, and `_total` after a counter."""
        return f"ray_{PREFIX}{self.name}" + ("_total" if self.kind == "counter" else "")

    @property
    def labels(self) -> tuple[str, ...]:
        """Ray's own (node, session, worker) not counted."""
        own = () if self.label is None else (self.label,)
        return (*own, "model") if self.by_model else own


METRICS = (
    Metric("documents", "Documents in committed output files.", by_model=False),
    Metric(
        "fragments_planned",
        "Fragments that a run found when it planned, by the state of their file.",
        "state",
        by_model=False,
    ),
    Metric(
        "fragments_finished",
        "Fragments that are committed or could not be read (`unreadable`).",
        "outcome",
        by_model=False,
    ),
    Metric("items", "Work items that are `committed`, or `failed` to be.", "outcome", by_model=False),
    Metric("dead_letters", "Documents, fragments and files in the dead letters.", "error_class"),
    Metric("sentences", "Sentences of the texts that were read."),
    Metric("mentions", "Mentions in committed work items."),
    Metric("relations", "Relations in committed work items."),
    Metric("windows", "Texts with their spans that a model has read."),
    Metric("tokens", "Word tokens of these windows."),
    Metric("entities", "Entity tokens of these windows."),
    Metric("spans", "Spans that `ner` has scored."),
    Metric("pairs", "Pairs of mentions that `relations` has scored."),
    Metric("batches", "Batches of windows; one that memory did not hold and was halved counts once."),
    Metric(
        "positions",
        "Words and entities of batches: `used`, or `padding`. Padding efficiency is the share of `used`.",
        "use",
    ),
    Metric(
        "seconds",
        "Time by stage. Of tasks: read, segment, propose, commit. Of actors: load, build, forward, decode,"
        " waiting, and lost (with a process that ended or hung).",
        "stage",
    ),
    Metric("actor_seconds", "Time that actors were there, from their start to their last answer."),
    Metric("loads", "Child processes started: more than there are actors where some were lost."),
    Metric("memory_bytes", "Most resident memory of a child process so far.", kind="gauge"),
)
"""All that a run exports."""
_BY_NAME = {metric.name: metric for metric in METRICS}


def export(readings: Readings) -> None:
    """Add counts to the metrics of this process."""
    for model, counts in readings.items():
        for key, amount in counts.items():
            name, _, label = key.partition("/")
            metric = _BY_NAME[name]
            _record(metric, amount, {metric.label: label} if metric.label else {}, model)


class RunMetrics:
    """The metrics of one run, exported by its driver."""

    def __init__(self, plan: Plan) -> None:
        """Export what the plan says."""
        _peaks.clear()
        for state, tally in plan.tallies.items():
            _record(_BY_NAME["fragments_planned"], tally.fragments, {"state": state})
        for bad in plan.bad:
            if not bad.reported:
                _record(_BY_NAME["dead_letters"], 1, {"error_class": bad.error_class}, "")

    def add(self, result: ItemResult) -> None:
        """Export a finished work item."""
        export(result.readings)
        _record(_BY_NAME["documents"], sum(entry.rows for entry in result.committed), {})
        _record(_BY_NAME["items"], 1, {"outcome": "committed" if result.error is None else "failed"})
        for outcome, count in (("committed", len(result.committed)), ("unreadable", result.unreadable)):
            _record(_BY_NAME["fragments_finished"], count, {"outcome": outcome})
        # Ray forgets a gauge that is not set again within two of its reports.
        for (metric, labels), value in _peaks.items():
            _gauge(metric).set(value, dict(labels))


def _record(metric: Metric, amount: float, tags: Mapping[str, str], model: str | None = None) -> None:
    """Add to a counter, or set a gauge to the larger of its value and `amount`."""
    labels = dict(tags) if model is None else {**tags, "model": model}
    if metric.kind == "gauge":
        key = (metric, tuple(sorted(labels.items())))
        _peaks[key] = max(amount, _peaks.get(key, 0.0))
        _gauge(metric).set(_peaks[key], labels)
    elif amount > 0:  # Ray refuses to add nothing
        _counter(metric).inc(amount, labels)


@cache
def _counter(metric: Metric) -> Counter:
    return Counter(PREFIX + metric.name, metric.about, metric.labels)


@cache
def _gauge(metric: Metric) -> Gauge:
    return Gauge(PREFIX + metric.name, metric.about, metric.labels)
