"""What a report shows of a run: its manifest, the dead letters that OUTPUT has, some documents. What is not
known is said in `notes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from luke_batch.base.errors import FragmentError, InputError, OutputError
from luke_batch.corpus.committed import list_data, list_dead_letters, shown
from luke_batch.corpus.drift import Drift
from luke_batch.corpus.manifest import RunManifest, read_manifests, without_secrets
from luke_batch.corpus.statistics import Statistics
from luke_batch.corpus.storage import RUNS, Storage
from luke_batch.report.lookup import each_letters
from luke_batch.report.samples import MOST, Sample, read_samples
from luke_batch.report.wording import phases

_EXAMPLES = 3
"""Dead letters of a class that are shown."""


@dataclass(slots=True)
class DeadClass:
    """Dead letters that failed at one stage with one error."""

    stage: str
    error_class: str
    count: int = 0
    examples: list[Mapping[str, Any]] = field(default_factory=lambda: list[Mapping[str, Any]]())


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that a report shows."""

    output: str
    run: RunManifest
    runs: int
    """Runs of OUTPUT that have a readable manifest."""
    statistics: Statistics | None
    """Of the documents that the run committed; None where it recorded none."""
    drift: Drift | None
    before: Statistics | None
    """Of the run that the drift is measured against."""
    dead: Sequence[DeadClass]
    """Those that OUTPUT has now, most first."""
    samples: Sequence[Sample]
    notes: Sequence[str]

    @property
    def work_seconds(self) -> float:
        """From the first work item to the last."""
        return phases(self.run).get("work", 0.0)

    @property
    def committed(self) -> int:
        """Documents that the run itself committed."""
        return int(self.run.figures.get("documents") or 0)

    def to_json(self) -> dict[str, Any]:
        """For a program: the manifest, and what was found beside it."""
        return {
            "output": self.output,
            "run": asdict(self.run),
            "runs": self.runs,
            "drift": None if self.drift is None else self.drift.figures(),
            "dead_letters": [asdict(each) for each in self.dead],
            "notes": list(self.notes),
        }


def collect(output: Storage, run_id: str | None = None, *, samples: bool = True) -> Figures:
    """The figures of one run of OUTPUT.

    Args:
        output: OUTPUT. run_id: the run; None: the last that finished, else the last that began. samples:
        whether to read documents.

    Raises:
        OutputError: OUTPUT cannot be listed or read, or no run has left anything.
        InputError: there is no such run.
    """
    notes: list[str] = []
    try:
        manifests = read_manifests(output)
        unreadable = len(output.list(".json", under=RUNS)) - len(manifests)
        if unreadable > 0:
            notes.append(f"Manifests of {unreadable:,} runs cannot be read: damaged, or of another version.")
        run = _chosen(output, manifests, run_id, notes)
        dead = _dead_letters(output)
        documents = _samples(output, run, notes) if samples else []
    except (OSError, FragmentError) as error:
        raise OutputError(f"OUTPUT {output.url} cannot be read: {' '.join(str(error).split())}") from error
    found = run.figures.get("statistics")
    if found is None:
        notes.append(
            "This run recorded no labels, scores and coverage: it has not finished, or is of an older version."
        )
    gone = run.planned.get("vanished", {})
    if gone.get("rows"):
        fate = (run.config.get("output") or {}).get("on_vanished", "keep")
        notes.append(
            f"OUTPUT held {gone['rows']:,} documents of {gone['files']:,} source files that INPUT no longer had,"
            f" as after an overwrite under new names (output.on_vanished: {fate})."
        )
    drift = run.figures.get("drift")
    measured = None if drift is None else Drift.from_figures(drift)
    before = _before(measured, manifests, run, notes)
    return Figures(
        output=without_secrets(output.url),
        run=run,
        runs=len(manifests),
        statistics=None if found is None else Statistics.from_json(found),
        drift=measured,
        before=before,
        dead=dead,
        samples=documents,
        notes=notes,
    )


def _chosen(output: Storage, manifests: Sequence[RunManifest], run_id: str | None, notes: list[str]) -> RunManifest:
    if not manifests:
        raise OutputError(
            f"OUTPUT {output.url} has no run that can be read; run `luke-batch annotate INPUT OUTPUT` first"
        )
    if run_id is not None:
        for run in manifests:
            if run.run_id == run_id:
                return run
        raise InputError(f"OUTPUT {output.url} has no run {run_id}; the last is {manifests[-1].run_id}")
    finished = [run for run in manifests if run.finished is not None]
    run = finished[-1] if finished else manifests[-1]
    if run.finished is None:
        notes.append("This run has not finished: it is under way, or was stopped.")
    elif manifests[-1].run_id != run.run_id:
        notes.append(f"Run {manifests[-1].run_id} began later and has not finished: it is under way, or was stopped.")
    return run


def _before(
    drift: Drift | None, manifests: Sequence[RunManifest], run: RunManifest, notes: list[str]
) -> Statistics | None:
    if drift is not None:
        for other in manifests:
            if other.run_id == drift.baseline and "statistics" in other.figures:
                return Statistics.from_json(other.figures["statistics"])
        notes.append(f"The figures of the run before, {drift.baseline}, are no longer there.")
        return None
    if run.command != "annotate":
        notes.append("A replay is of few documents: its labels are not compared with an earlier run's.")
        return None
    earlier = [other for other in manifests if other.run_id < run.run_id]
    if not earlier:
        notes.append("OUTPUT has no earlier run: there is nothing to compare the labels with.")
    elif run.figures.get("statistics") is not None:
        notes.append(
            f"No earlier run ({len(earlier)} in OUTPUT) recorded labels of documents: there is nothing to compare with."
        )
    return None


def _dead_letters(output: Storage) -> list[DeadClass]:
    classes: dict[tuple[str, str], DeadClass] = {}
    for _, letters in each_letters(output, list_dead_letters(output)):
        for letter in letters:
            key = (letter["stage"], letter["error_class"])
            known = classes.setdefault(key, DeadClass(*key))
            known.count += 1
            if len(known.examples) < _EXAMPLES:
                known.examples.append(letter)
    return sorted(classes.values(), key=lambda each: (-each.count, each.stage, each.error_class))


def _samples(output: Storage, run: RunManifest, notes: list[str]) -> list[Sample]:
    """Documents that the run committed; where its files are merged or replaced, others of OUTPUT."""
    input = run.config.get("input") or {}
    found = read_samples(output, run.figures.get("samples") or [], input)
    if found or not run.finished:
        return found
    files = [file for each in list_data(output).committed.values() for file in shown(output, each)]
    step = max(len(files) // (2 * MOST), 1)
    found = read_samples(output, [file.file.path for file in files[::step]][: 2 * MOST], input)
    if found:
        notes.append("The run's own files are merged or replaced by now: the documents are others of OUTPUT.")
    return found
