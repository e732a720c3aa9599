"""The whole job: `make bench-job`, or `python -m benchmarks.job [--seconds S | --documents N] [--smoke]`.

The same documents through the in-process `Annotator`, through `luke-batch annotate` on a local Ray with one
actor on one core and with two on two cores, and some of them through a plain script around transformers.
Every way reads Parquet and writes Parquet, and is a process of its own, pinned to its cores with everything
that it starts. The `Annotator` runs in two halves, one before and one after Ray, so that what else happens
on the machine meanwhile disturbs both alike.

--smoke: few documents, and nothing is written to docs/benchmarks.md.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.job_runs import Run, in_process, job, on_ray, plain
from benchmarks.page import PAGE, circumstances, markdown, put
from luke_batch.config import JobConfig
from luke_batch.model.single_head import extract_head

_ROWS, _SMOKE_ROWS = 8, 2
"""Documents of a fragment: a run of two minutes on a core has some forty."""
_SAMPLE = 24
"""Documents that the rate is guessed from."""
_PLAIN = 48
"""Documents of the plain script."""
_HEADS = ("ner", "types", "relations")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.job", description=__doc__)
    parser.add_argument("--corpus", type=Path, help="Parquet with id and text (default: the embedded one)")
    parser.add_argument("--seconds", type=float, default=150, help="of the Annotator (default: 150)")
    parser.add_argument("--documents", type=int, help="so many, whatever they take")
    parser.add_argument("--smoke", action="store_true", help="few documents; writes nothing")
    arguments = parser.parse_args()
    embedded = Path(str(files("luke_batch.embedded") / "corpus.parquet"))
    table = pq.read_table(arguments.corpus or embedded)
    rows = _SMOKE_ROWS if arguments.smoke else _ROWS
    config = job(rows, "lang" in table.column_names)
    with TemporaryDirectory(prefix="luke-batch-job-") as folder:
        count = 8 * rows if arguments.smoke else arguments.documents
        count = count or _enough(table, Path(folder), config, arguments.seconds)
        content = compare(repeated(table, rounded(count, rows)), Path(folder), config)
    if not arguments.smoke:
        put(PAGE, "job", content)


def compare(table: pa.Table, folder: Path, config: JobConfig) -> str:
    """Run all ways over `table`; the tables, also printed."""
    corpus = folder / "corpus"
    corpus.mkdir()
    halves = [corpus / "first.parquet", corpus / "second.parquet"]
    for number, half in enumerate(halves):
        part = table.slice(number * len(table) // 2, len(table) // 2)
        pq.write_table(part, half, row_group_size=config.output.max_rows)
    rows = config.output.max_rows
    sample = folder / "sample.parquet"
    pq.write_table(_evenly(table.slice(0, len(table) // 2), _PLAIN), sample)
    for head in _HEADS:
        extract_head("embedded", head, folder / "models" / head)
    loads: list[float] = []
    first = _noted("Annotator, first half", loads, partial(in_process, halves[0], folder / "a", config))
    one = _noted("Ray, 1 actor", loads, partial(on_ray, corpus, folder / "ray-1", config, 1))
    second = _noted("Annotator, second half", loads, partial(in_process, halves[1], folder / "b", config))
    runs = {
        "in-process `Annotator`": (1, first.and_then(second)),
        "Ray, 1 actor": (1, one),
    }
    if len(os.sched_getaffinity(0)) > 1:
        two = _noted("Ray, 2 actors", loads, partial(on_ray, corpus, folder / "ray-2", config, 2))
        runs["Ray, 2 actors"] = (2, two)
    script = _noted("plain", loads, partial(plain, sample, folder / "plain", folder / "models", rows))
    for name, (_, run) in runs.items():
        if (run.documents, run.mentions) != (len(table), one.mentions):
            sys.exit(f"{name}: {run.documents} documents with {run.mentions} mentions: not the same work")
    runs[f"plain transformers script ({script.documents} documents, extrapolated)"] = (
        1,
        extrapolated(script, len(table)),
    )
    heading = (
        f"{circumstances('ray', 'torch', 'transformers')}; {len(table):,} documents of"
        f" {sum(map(len, table['text'].to_pylist())) / len(table):.0f} characters in fragments of"
        f" {config.output.max_rows}. Load of the machine before each run: {', '.join(map(_figure, loads))}."
    )
    content = "\n\n".join([heading, times(runs), "\n".join(f"* {line}" for line in findings(runs, one))])
    print(f"\n{content}", flush=True)
    return content


def extrapolated(run: Run, documents: int) -> Run:
    """The same way over more documents at its steady rate, with its start."""
    share = documents / run.documents
    seconds = documents / run.steady + run.around
    return replace(run, documents=documents, seconds=seconds, cpu=run.cpu * share)


def times(runs: dict[str, tuple[int, Run]]) -> str:
    """A row for each way."""
    columns = ["way", "cores", "seconds", "of these start and end", "documents/s", "steady documents/s"]
    rows = [
        [
            name,
            str(cores),
            f"{run.seconds:.0f}",
            f"{run.around:.1f}",
            f"{run.rate:.2f}",
            f"{run.steady:.2f}",
            f"{run.cpu:.0f}",
            f"{run.peak / 1e6:.0f}",
        ]
        for name, (cores, run) in runs.items()
    ]
    return markdown([*columns, "CPU seconds", "MB at most"], rows)


def findings(runs: dict[str, tuple[int, Run]], one: Run) -> list[str]:
    """What the requirements ask of the figures, in a line each."""
    (_, alone), *others, (_, script) = runs.values()
    overhead = (
        f"Ray with one actor takes {one.seconds / alone.seconds - 1:+.1%} of the in-process time in all,"
        f" {alone.steady / one.steady - 1:+.1%} in the steady state, {one.cpu / alone.cpu - 1:+.1%} CPU time."
    )
    lines = [overhead]
    for cores, run in others[1:]:
        lines.append(
            f"{cores} actors on {cores} cores do {one.seconds / run.seconds:.2f} times one actor in all,"
            f" {run.steady / one.steady:.2f} times in the steady state, with"
            f" {run.cpu / one.cpu - 1:+.1%} CPU time."
        )
    lines.append(
        f"The plain script does {script.steady:.2f} documents/s: the `Annotator` is"
        f" {alone.steady / script.steady:.2f} times as fast, Ray with one actor"
        f" {one.steady / script.steady:.2f} times."
    )
    lines.append(f"A model actor and its child process hold {one.actor / 1e6:.0f} MB (RssAnon) at most.")
    return lines


def repeated(table: pa.Table, documents: int) -> pa.Table:
    """`table` over and over up to so many documents, in an order that spreads neighbours, under own ids."""
    places = np.arange(documents) % len(table)
    # Neighbours are alike (one language, one length); a stride without common divisor mixes them.
    stride = next(
        step for step in range(len(table) // 3 + 1, 2 * len(table)) if np.gcd(step, len(table)) == 1
    )
    mixed = table.take(places * stride % len(table))
    ids = pa.array([f"{id}-{number}" for number, id in enumerate(mixed["id"].to_pylist())])
    return mixed.set_column(mixed.schema.get_field_index("id"), "id", ids)


def rounded(documents: int, rows: int) -> int:
    """Up to whole fragments of `rows` documents in two equal halves."""
    return -(-documents // (2 * rows)) * 2 * rows


def _enough(table: pa.Table, folder: Path, config: JobConfig, seconds: float) -> int:
    """Documents that take the Annotator so many seconds."""
    sample = folder / "guess.parquet"
    pq.write_table(repeated(table, _SAMPLE), sample)
    return int(seconds * in_process(sample, folder / "guess", config).steady)


def _noted(name: str, loads: list[float], way: Callable[[], Run]) -> Run:
    """Run `way` and say what it took; note the load of the machine before."""
    loads.append(os.getloadavg()[0])
    run = way()
    print(f"{name}: {run.documents} documents, {run.seconds:.1f} s, {run.steady:.2f}/s", flush=True)
    return run


def _evenly(table: pa.Table, count: int) -> pa.Table:
    return table.take(np.linspace(0, len(table), min(count, len(table)), endpoint=False).astype(int))


def _figure(value: float) -> str:
    return f"{value:.1f}"


if __name__ == "__main__":
    main()
