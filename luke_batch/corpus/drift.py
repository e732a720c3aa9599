"""Whether labels come as often as in the last good run: the Jensen-Shannon distance of their shares.

The distance is the square root of the Jensen-Shannon divergence with logarithms to base 2 (Lin 1991; a
metric: Endres and Schindelin 2003): 0 for the same shares, 1 for labels that have nothing in common. It needs
no reference classes, is symmetric, and a label that one run lacks does no harm, as it would to a ratio of
shares (PSI).

Two samples of one source differ as well. For n and m independent labels of k kinds the expected divergence is
about (k - 1) (1/n + 1/m) / (8 ln 2), the mean of a chi-square; its root is `chance`. Mentions of one document
are not independent, so the true figure is larger.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from luke_batch.base.errors import ConfigError
from luke_batch.corpus.manifest import RunManifest, latest_manifest, read_manifests
from luke_batch.corpus.statistics import KINDS, Statistics, totals
from luke_batch.corpus.storage import Storage

EXIT_CODE = 5
"""Complete, but the label shares differ from the baseline's by more than `output.drift_limit`."""
_SHOWN = 5
"""Runs that a message lists."""
LEAST = 100
"""Labels of a kind that both runs must have: shares of fewer say nothing."""


@dataclass(frozen=True, slots=True)
class KindDrift:
    """One kind of label: mentions, types or relations."""

    distance: float
    """0 to 1."""
    chance: float
    """What two samples of one source may be expected to differ by."""
    now: int
    """Labels in this run."""
    before: int


@dataclass(frozen=True, slots=True)
class Drift:
    """A run against its baseline."""

    baseline: str
    """Id of that run."""
    same_fingerprint: bool
    """Whether that run computed the same: another model is a reason for other shares."""
    kinds: Mapping[str, KindDrift]
    """Kinds with enough labels in both runs."""

    @property
    def largest(self) -> float:
        """Of all kinds; 0 where none could be compared."""
        return max((kind.distance for kind in self.kinds.values()), default=0.0)

    def exceeds(self, limit: float | None) -> bool:
        """Whether a kind is further away than `limit` allows."""
        return limit is not None and self.largest > limit

    def figures(self) -> dict[str, Any]:
        """For the run manifest."""
        return asdict(self)

    @classmethod
    def from_figures(cls, value: Mapping[str, Any]) -> Self:
        """What `figures` gave."""
        kinds = {kind: KindDrift(**entry) for kind, entry in value["kinds"].items()}
        return cls(value["baseline"], value["same_fingerprint"], kinds)


def compare(now: Statistics, fingerprint: str, baseline: RunManifest) -> Drift:
    """The drift from `baseline` to a run with this fingerprint."""
    before = Statistics.from_json(baseline.figures["statistics"])
    kinds: dict[str, KindDrift] = {}
    for kind in KINDS:
        ours, theirs = totals(now.labels.get(kind, {})), totals(before.labels.get(kind, {}))
        if min(sum(ours.values()), sum(theirs.values())) >= LEAST:
            kinds[kind] = _compare(ours, theirs)
    return Drift(baseline.run_id, baseline.fingerprint == fingerprint, kinds)


def baseline_of(output: Storage, run_id: str, wanted: str | None = None) -> RunManifest | None:
    """What a run is compared with: the run `wanted`, or the last run of `annotate` before `run_id` that ended with exit
    code 0 and counted documents. None where there is none.

    Raises ConfigError where the run that is wanted is not there, or has counted nothing.
    """
    if wanted is None:
        return latest_manifest(output, lambda run: run.run_id < run_id and run.exit_code == 0 and _has_counted(run))
    known = {run.run_id: run for run in read_manifests(output) if _has_counted(run)}
    if wanted not in known:
        shown = ", ".join(sorted(known)[-_SHOWN:]) or "none"
        raise ConfigError(
            f"output.drift_baseline: OUTPUT {output.url} has no finished run {wanted} with documents;"
            f" it has {shown}; name one of them, or leave it null"
        )
    return known[wanted]


def last_drift(output: Storage, wanted: str | None = None) -> Drift | None:
    """That of the last run with documents, which a run without new ones is judged by: from the run `wanted`, else as it
    was measured then.

    Raises ConfigError as `baseline_of` does.
    """
    run = latest_manifest(output, _has_counted)
    if run is None:
        return None
    baseline = None if wanted is None else baseline_of(output, run.run_id, wanted)
    if baseline is not None:
        return compare(Statistics.from_json(run.figures["statistics"]), run.fingerprint, baseline)
    measured = run.figures.get("drift")
    return None if measured is None else Drift.from_figures(measured)


def distance(first: Mapping[str, int], second: Mapping[str, int]) -> float:
    """Jensen-Shannon distance of the shares in two counts, neither of which is empty."""
    names = sorted({*first, *second})
    p, q = (np.array([counts.get(name, 0) for name in names], np.float64) for counts in (first, second))
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def divergence(shares: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        some = shares > 0
        return float(np.sum(shares[some] * np.log2(shares[some] / middle[some])))

    return float(np.sqrt(max(divergence(p) + divergence(q), 0.0) / 2))


def _has_counted(run: RunManifest) -> bool:
    statistics = run.figures.get("statistics") or {}
    return bool(run.command == "annotate" and run.finished and statistics.get("documents"))


def _compare(now: Mapping[str, int], before: Mapping[str, int]) -> KindDrift:
    ours, theirs = sum(now.values()), sum(before.values())
    kinds = len({*now, *before})
    chance = np.sqrt((kinds - 1) * (1 / ours + 1 / theirs) / (8 * np.log(2)))
    return KindDrift(round(distance(now, before), 4), round(float(chance), 4), ours, theirs)
