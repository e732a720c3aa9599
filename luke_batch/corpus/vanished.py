"""How much of OUTPUT is of source files that INPUT no longer has, and when a run stops because of it.

A corpus that is rewritten under new names (Spark's `overwrite`) looks as if all its files had vanished and others
had come: `keep` would show every document twice, `prune` would rest on a listing that may be a mistake. So where
more than `output.vanished_limit` of the documents in OUTPUT vanished since the last run, nothing is done until
somebody has confirmed it. What an earlier run has seen and kept is not asked for again.
"""

from dataclasses import dataclass
from typing import Any

from luke_batch.base.errors import IncompleteError
from luke_batch.corpus.manifest import RunManifest, latest_manifest
from luke_batch.corpus.plan import Plan


@dataclass(frozen=True, slots=True)
class Vanished:
    """Documents in OUTPUT whose source files are gone."""

    rows: int
    fresh: int
    """Those that no earlier run has seen and kept; with `prune` all of them."""
    committed: int
    """All documents in OUTPUT, those of `rows` included."""
    files: int
    on_vanished: str
    limit: float

    @property
    def share(self) -> float:
        """Of the documents in OUTPUT, 0 to 1."""
        return self.fresh / self.committed if self.committed else 0.0

    @property
    def stops(self) -> bool:
        """Whether a run needs to be told that this is as it should be."""
        return self.share > self.limit

    @property
    def words(self) -> str:
        """One line for a person."""
        fate = (
            "output.on_vanished: prune removes them at the end of a complete run"
            if self.on_vanished == "prune"
            else "output.on_vanished: keep shows them beside the documents of INPUT"
        )
        return (
            f"{self.fresh:,} of {self.committed:,} documents in OUTPUT ({self.share:.0%}) are of source files that"
            f" INPUT no longer has since the last run, as after an overwrite under new names; {fate}"
        )

    def figures(self) -> dict[str, Any]:
        """For a program."""
        return {
            "rows": self.rows,
            "fresh": self.fresh,
            "committed": self.committed,
            "share": round(self.share, 4),
            "limit": self.limit,
            "stops": self.stops,
        }

    def refuse(self) -> None:
        """Raise IncompleteError where a run may not go on unasked."""
        if self.stops:
            raise IncompleteError(
                f"{self.words}; more than output.vanished_limit ({self.limit:g}), so nothing was annotated or removed:"
                " mend INPUT, or run again with --confirm-vanished"
            )


def find_vanished(plan: Plan) -> Vanished | None:
    """What of OUTPUT has vanished from INPUT; None where nothing has."""
    counts = plan.tallies["vanished"]
    if not counts.files:
        return None
    most = plan.vanished_limit * plan.committed_rows

    def is_known(run: RunManifest) -> bool:
        return (
            run.finished is not None
            and run.command == "annotate"
            and (_prunes(run) or counts.rows - _seen(run) <= most)
        )

    seen = 0
    if plan.on_vanished == "keep":
        last = latest_manifest(plan.output, is_known)
        seen = 0 if last is None or _prunes(last) else _seen(last)
    return Vanished(
        rows=counts.rows,
        fresh=max(0, counts.rows - seen),
        committed=plan.committed_rows,
        files=counts.files,
        on_vanished=plan.on_vanished,
        limit=plan.vanished_limit,
    )


def _prunes(run: RunManifest) -> bool:
    return (run.config.get("output") or {}).get("on_vanished") == "prune"


def _seen(run: RunManifest) -> int:
    return run.planned.get("vanished", {}).get("rows", 0)
