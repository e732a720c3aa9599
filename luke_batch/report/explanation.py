"""From one document of OUTPUT back to where it comes from: run, fingerprint, models, source file and row."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import pyarrow.parquet as pq

from luke_batch.base.errors import FragmentError, InputError, LukeBatchError, OutputError
from luke_batch.corpus.committed import CommittedFile, list_output
from luke_batch.corpus.footers import inspect, read_known_footers
from luke_batch.corpus.manifest import RunManifest, read_manifests
from luke_batch.corpus.sources import source_at
from luke_batch.corpus.storage import Storage
from luke_batch.report import wording
from luke_batch.report.lookup import FoundLetter, FoundRow, find_letters, find_rows

_OURS = "luke_batch."
_LISTS = ("sentences", "mentions", "relations")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where one document comes from, and what was read and left out of it."""

    id: str
    state: str
    """`committed` or `dead letter`."""
    file: str
    """Output file or dead-letter file, relative to OUTPUT."""
    row: int | None
    """In the output file."""
    source: str
    """Relative to INPUT."""
    source_row: int | None
    """None for a whole file."""
    source_state: str
    """Whether INPUT still has this very content."""
    fragment: str
    fingerprint: str
    schema: str | None
    runs: Sequence[Mapping[str, Any]]
    """What the manifests say of the runs: several after a compaction."""
    models: Mapping[str, Mapping[str, str | None]]
    counts: Mapping[str, int]
    """Sentences, mentions, relations."""
    coverage: Mapping[str, int]
    dropped: Mapping[str, int]
    letter: Mapping[str, str] | None
    """Stage, error class and message of a dead letter."""
    notes: Sequence[str]
    """What could not be found out."""

    def to_json(self) -> dict[str, Any]:
        """For a program."""
        return asdict(self)


def explain(output: Storage, wanted: str) -> list[Explanation]:
    """Every document of OUTPUT with this id.

    Raises:
        OutputError: OUTPUT cannot be listed or read, or holds nothing.
        InputError: no document has this id.
    """
    try:
        listed = list_output(output)
        manifests = {run.run_id: run for run in read_manifests(output)}
    except OSError as error:
        raise OutputError(f"OUTPUT {output.url} cannot be listed: {error}") from error
    if not listed.committed and not listed.letters:
        raise OutputError(f"OUTPUT {output.url} holds nothing; run `luke-batch annotate INPUT OUTPUT` first")
    columns = [run.config.get("input", {}).get("id_column") for run in reversed(manifests.values())]
    names = list(dict.fromkeys([*(name for name in columns if name), "id"]))
    rows = find_rows(output, listed, wanted, names)
    letters = find_letters(output, listed, wanted)
    if not rows and not letters:
        raise InputError(
            f"no document of OUTPUT {output.url} has the id {wanted!r}, neither committed (columns:"
            f" {', '.join(names)}) nor in the dead letters; `<path>#<row>` names one by its place"
        )
    found = [
        *(_of_row(output, wanted, row, manifests) for row in rows),
        *(_of_letter(output, wanted, letter, manifests) for letter in letters),
    ]
    return sorted(found, key=lambda each: (each.source, -1 if each.source_row is None else each.source_row))


def lines(found: Explanation) -> Iterator[tuple[str, str]]:
    """Name and value of everything that is known, for a person."""
    yield "id", found.id
    yield "state", found.state
    if found.letter is not None:
        yield "stage", found.letter["stage"]
        yield "error", f"{found.letter['error_class']}: {found.letter['message']}"
    yield "source", found.source + ("" if found.source_row is None else f", row {found.source_row}")
    yield "source now", found.source_state
    yield "letter" if found.row is None else "output", found.file + ("" if found.row is None else f", row {found.row}")
    yield "fragment", found.fragment
    yield "fingerprint", found.fingerprint
    for path, model in found.models.items():
        yield "model", wording.model(path, model)
    for run in found.runs:
        if "started" in run:
            yield "run", f"{run['run_id']} ({run['command']}), {run['started']} to {run['finished']}"
            yield "heads", ", ".join(head["head"] for head in run["heads"])
            yield "versions", ", ".join(f"{name} {number}" for name, number in run["versions"].items())
        else:
            yield "run", run["run_id"]
    if found.counts:
        yield "found", ", ".join(f"{count:,} {name}" for name, count in found.counts.items())
    if found.coverage:
        yield "read", ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found.coverage.items())
        yield "dropped", ", ".join(f"{count:,} {name}" for name, count in found.dropped.items()) or "nothing"
    for note in found.notes:
        yield "note", note


def _of_row(output: Storage, wanted: str, found: FoundRow, manifests: Mapping[str, RunManifest]) -> Explanation:
    metadata = _metadata(output, found.file)
    notes: list[str] = []
    coverage, dropped, counts = _numbers(output, found, notes)
    runs = _runs(metadata.get("run", "").split(","), manifests, notes)
    return Explanation(
        id=wanted,
        state="committed",
        file=found.file.file.path,
        row=found.row,
        source=metadata.get("source", ""),
        source_row=found.source_row,
        source_state=_source_state(output, runs, metadata.get("source", ""), found.file.key.content_id, manifests),
        fragment=str(found.file.key),
        fingerprint=metadata.get("fingerprint", found.file.key.fingerprint),
        schema=metadata.get("schema"),
        runs=runs,
        models=json.loads(metadata.get("models", "{}")),
        counts=counts,
        coverage=coverage,
        dropped=dropped,
        letter=None,
        notes=notes,
    )


def _of_letter(output: Storage, wanted: str, found: FoundLetter, manifests: Mapping[str, RunManifest]) -> Explanation:
    letter, notes = found.letter, list[str]()
    runs = _runs([letter["run"]], manifests, notes)
    run = manifests.get(letter["run"])
    return Explanation(
        id=wanted,
        state="dead letter",
        file=found.file.file.path,
        row=None,
        source=letter["source"],
        source_row=letter["row"],
        source_state=_source_state(output, runs, letter["source"], found.file.key.content_id, manifests),
        fragment=letter["fragment"],
        fingerprint=found.file.key.fingerprint if run is None else run.fingerprint,
        schema=None,
        runs=runs,
        models={} if run is None else run.models,
        counts={},
        coverage={},
        dropped={},
        letter={name: letter[name] for name in ("stage", "error_class", "message")},
        notes=notes,
    )


def _metadata(output: Storage, file: CommittedFile) -> dict[str, str]:
    """What an output file says of itself, without the prefix of its keys."""
    pairs = (inspect(output, file.file).schema.metadata or {}).items()
    found = {key.decode(): value.decode() for key, value in pairs if key.startswith(_OURS.encode())}
    return {key.removeprefix(_OURS): value for key, value in found.items()}


def _numbers(
    output: Storage, found: FoundRow, notes: list[str]
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Sums of coverage, dropped by reason, lengths of the lists: of one row."""
    with output.open(found.file.file.path) as source:
        parquet = pq.ParquetFile(source)
        columns = [name for name in (*_LISTS, "coverage") if name in parquet.schema_arrow.names]
        row = cast("dict[str, Any]", parquet.read(columns=columns).slice(found.row, 1).to_pylist()[0])
    coverage: dict[str, Any] = row.pop("coverage", None) or {}
    if not coverage:
        notes.append("the output has no coverage: windows and dropped spans are not known")
    dropped = {entry["reason"]: entry["count"] for entry in coverage.pop("dropped", None) or []}
    counts = {name: len(values or []) for name, values in row.items()}
    return coverage, dropped, counts


def _runs(wanted: Sequence[str], manifests: Mapping[str, RunManifest], notes: list[str]) -> list[dict[str, Any]]:
    if len(wanted) > 1:
        notes.append("the output was merged (compact): one of these runs wrote the row")
    found: list[dict[str, Any]] = []
    for run_id in wanted:
        run = manifests.get(run_id)
        if run is None:
            notes.append(f"run {run_id} has no readable manifest: its settings and versions are not known")
            found.append({"run_id": run_id})
            continue
        found.append(
            {
                "run_id": run_id,
                "command": run.command,
                "started": run.started,
                "finished": run.finished,
                "input": run.input,
                "versions": run.versions,
                "heads": run.config.get("heads", []),
            }
        )
    return found


def _source_state(
    output: Storage,
    runs: Sequence[Mapping[str, Any]],
    source: str,
    content_id: str,
    manifests: Mapping[str, RunManifest],
) -> str:
    """What INPUT has at this path today."""
    known = [run for run in runs if run["run_id"] in manifests]
    if not known:
        return "unknown, as no manifest says where INPUT was"
    input = str(known[-1]["input"])
    try:
        found = source_at(input, source)
        if found is None:
            return f"no longer in {input}"
        storage, file = found
        noted = read_known_footers(output).get(source)
        same = (noted.content_id if noted and noted.is_of(file) else inspect(storage, file).footer_id) == content_id
    except (FragmentError, OSError, LukeBatchError) as error:
        return f"cannot be read in {input}: {' '.join(str(error).split())}"
    return f"unchanged in {input}" if same else f"changed since, in {input}"
