"""Outputs with figures to report, made without a model; texts, labels and names as hostile as wanted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from luke_batch.base.contracts import load_contract
from luke_batch.config import InputConfig, JobConfig, OutputConfig
from luke_batch.corpus.commit import commit_item
from luke_batch.corpus.drift import EXIT_CODE as DRIFT
from luke_batch.corpus.drift import baseline_of, compare
from luke_batch.corpus.manifest import RunManifest, write_manifest
from luke_batch.corpus.outcome import exit_code, reconcile
from luke_batch.corpus.plan import make_plan
from luke_batch.corpus.read import read_item
from luke_batch.corpus.statistics import Statistics
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.results import ItemResult, RunTally, Throughput
from luke_batch.document.columns import ERROR, ERROR_TYPE
from luke_batch.document.source import rename_collisions
from tests.corpora import FINGERPRINT, context, put

START = datetime(2026, 11, 25, 2, tzinfo=UTC)
WRITTEN = ("sentences", "mentions", "relations", "coverage")
MODELS: Mapping[str, Mapping[str, str | None]] = {"org/model": {"weights": "0a1b2c", "revision": "c0ffee"}}
PEOPLE = (("Marie Curie", "Warsaw"), ("Ada Lovelace", "London"), ("Lise Meitner", "Vienna"))


def sentences(count: int, label: str = "PER", first: int = 0) -> list[dict[str, Any]]:
    """Documents with two mentions, types and a relation; the first mention has `label`."""
    rows: list[dict[str, Any]] = []
    for number in range(first, first + count):
        person, place = PEOPLE[number % len(PEOPLE)]
        rows.append(
            {
                "id": f"d{number}",
                "title": f"{person} ({number})",
                "lang": ("en", "de")[number % 2],
                "text": f"{person} was born in {place}. She worked there.",
                "spans": [(person, label, 0.9), (place, "LOC", 0.7)],
            }
        )
    return rows


def report_run(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    number: int = 0,
    drift_limit: float | None = None,
    drift_baseline: str | None = None,
) -> RunManifest:
    """Commit `rows` as a new file of folder/in to folder/out, as run number `number` does."""
    source = pa.table({name: [row[name] for row in rows] for name in ("id", "title", "lang", "text")})
    put(folder / "in", f"part-{number}.parquet", source)
    spans = {row["id"]: row["spans"] for row in rows}
    config = JobConfig(input=InputConfig(lang_column="lang"), output=OutputConfig(max_rows=50, drift_limit=drift_limit))
    output = Storage.at(str(folder / "out"))
    plan = make_plan(str(folder / "in"), output, config, FINGERPRINT)
    began = START + timedelta(days=number)
    run_id = f"{began:%Y%m%dT%H%M%SZ}-{number:09x}"
    clock = _Clock()
    tally = RunTally(throughput=Throughput(clock))
    settings = context(run_id=run_id, written=WRITTEN, input=config.input)
    for item in plan.items:
        clock.now += 7.0
        read = read_item(plan.source, item, config.input)
        table = _annotated(read.table, spans)
        done = commit_item(output, item, table, read.failures, settings)
        tasks = {"seconds/read": 0.1, "seconds/segment": 0.4, "seconds/commit": 0.2}
        readings = {"": tasks, "main": {"seconds/forward": 6.0}}
        tally.add(ItemResult(tuple(done), 0, readings=readings, statistics=Statistics.of_item(table)))
    baseline = baseline_of(output, run_id, drift_baseline)
    drift = None if baseline is None else compare(tally.statistics, FINGERPRINT, baseline)
    outcome = reconcile(plan, run_id)
    manifest = replace(
        RunManifest.start(run_id, str(folder / "in"), plan, config.model_dump(mode="json"), began),
        models=MODELS,
        versions={"luke-batch": "0.1.0", "ray": "2.60.0"},
        durations={"plan": 0.5, "start": 3.0, "annotate": 3.0 + clock.now, "finish": 0.2},
        figures={**tally.figures(), "drift": None if drift is None else drift.figures()},
    )
    code = DRIFT if drift is not None and drift.exceeds(drift_limit) else exit_code(outcome, 0.5)
    finished = manifest.finish(outcome, code, began + timedelta(seconds=clock.now))
    write_manifest(output, finished)
    return finished


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _annotated(table: pa.Table, spans: Mapping[str, Sequence[tuple[str, str, float]]]) -> pa.Table:
    """Annotations of the rows of a work item; a text that says FAIL fails."""
    table = rename_collisions(table, WRITTEN)
    rows = [_annotation(text or "", spans.get(id, ())) for id, text in _pairs(table)]
    failed = [bool(text and "FAIL" in text) for _, text in _pairs(table)]
    contract = load_contract("annotations")
    for name in WRITTEN:
        field = contract.field(name)
        values = [None if bad else row[name] for row, bad in zip(rows, failed, strict=True)]
        table = table.append_column(field, pa.array(values, field.type))
    error = {"stage": "segment", "error_class": "DocumentError"}
    errors = [
        {**error, "message": f"told to fail: {text}"} if bad else None
        for (_, text), bad in zip(_pairs(table), failed, strict=True)
    ]
    return table.append_column(ERROR, pa.array(errors, ERROR_TYPE))


def _pairs(table: pa.Table) -> list[tuple[str, str | None]]:
    return list(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))


def _annotation(text: str, spans: Sequence[tuple[str, str, float]]) -> dict[str, Any]:
    mentions: list[dict[str, Any]] = [
        {
            "start": text.index(surface),
            "end": text.index(surface) + len(surface),
            "text": surface,
            "sentence": 0,
            "label": label,
            "score": score,
            "types": [{"label": f"{label} type", "score": 0.6}, {"label": "thing", "score": 0.8}],
            "title": f"{surface} (title)",
        }
        for surface, label, score in spans
        if surface in text
    ]
    pair = {"head": 0, "tail": 1, "label": f"born in {spans[0][1]}", "score": 0.5} if len(mentions) > 1 else None
    return {
        "sentences": [{"start": 0, "end": len(text)}] if text else [],
        "mentions": sorted(mentions, key=lambda each: (each["start"], -each["end"])),
        "relations": [] if pair is None else [pair],
        "coverage": {
            "characters": len(text),
            "sentences": 1,
            "windows": 2,
            "tokens": len(text.split()),
            "spans_proposed": 5,
            "spans_scored": 3,
            "dropped": [{"reason": "unlikely_span", "count": 2}],
        },
    }
