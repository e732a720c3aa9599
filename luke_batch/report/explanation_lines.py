"""An explanation for a person: a name and a value on each line."""

from collections.abc import Iterator

from luke_batch.report.explanation import Explanation


def lines(found: Explanation) -> Iterator[tuple[str, str]]:
    """Name and value of everything that is known, for a person."""
    yield "id", found.id
    yield "state", found.state
    if found.letter is not None:
        yield "stage", found.letter["stage"]
        yield "error", f"{found.letter['error_class']}: {found.letter['message']}"
    yield "source", found.source + ("" if found.source_row is None else f", row {found.source_row}")
    yield "source now", found.source_state
    yield (
        ("output" if found.row is not None else "letter"),
        found.file + ("" if found.row is None else f", row {found.row}"),
    )
    yield "fragment", found.fragment
    yield "fingerprint", found.fingerprint
    for path, model in found.models.items():
        revision = f", revision {model['revision']}" if model.get("revision") else ""
        precision = f", {model['precision']}" if model.get("precision") else ""
        yield "model", f"{path}{revision}{precision}, weights {model.get('weights')}"
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
        yield (
            "read",
            ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found.coverage.items()),
        )
        yield "dropped", ", ".join(f"{count:,} {name}" for name, count in found.dropped.items()) or "nothing"
    for note in found.notes:
        yield "note", note
