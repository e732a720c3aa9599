"""The whole job: `make bench-job`, or `python -m benchmarks.job [--seconds S | --documents N] [--smoke]`.

The same documents through the in-process `Annotator`, through `luke-batch annotate` on a local Ray with one
actor (on one core for everything, and on two) and with two, and some of them through a plain script around
transformers.
Every way reads Parquet and writes Parquet, and is a process of its own, pinned to its cores with everything
that it starts. The `Annotator` runs in two halves, one before and one after Ray, so that what else happens
on the machine meanwhile disturbs both alike.

--smoke: few documents, and nothing is written to docs/benchmarks.md.
"""

import argparse
import os
import shutil
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
from luke_batch.model.files.checkpoint import TOKENIZER_FILES, resolve
from luke_batch.model.files.weights import encoder_state, head_state
from luke_batch.model.writing.single_head import write_single_head

_ROWS, _SMOKE_ROWS = 8, 2
"""Documents of a fragment: a run of two minutes on a core has some forty."""
_SAMPLE = 24
"""Documents that the rate is guessed from."""
_PLAIN = 32
"""Documents of the plain script."""
_ON_RAY = (
    ("Ray, 1 actor, 1 core", 1, 1),
    ("Ray, 1 actor, 2 cores", 1, 2),
    ("Ray, 2 actors, 2 cores", 2, 2),
)
"""Names, actors, and cores for everything."""
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


def _write_marked(head: str, folder: Path) -> None:
    """The embedded model's encoder with a head as transformers' class has it, for the plain script. The model's own
    types and relations are joint: here they have weights that cost the same and mean nothing.
    """
    import torch

    checkpoint = resolve("embedded")
    facts = checkpoint.heads[head]
    weights = encoder_state(checkpoint)
    if facts.input == "marked":
        weights["classifier.weight"], bias = head_state(checkpoint, head)
        weights |= {} if bias is None else {"classifier.bias": bias}
    else:
        width = checkpoint.hidden_size * (2 if head == "relations" else 1)
        weights["classifier.weight"] = torch.randn(len(facts.labels), width)
        weights |= {"classifier.bias": torch.zeros(len(facts.labels))} if head == "types" else {}
    write_single_head(folder, head, facts, checkpoint.config, checkpoint.context, weights)
    for name in TOKENIZER_FILES:
        if (checkpoint.folder / name).exists():
            shutil.copyfile(checkpoint.folder / name, folder / name)


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
        (folder / "models" / head).mkdir(parents=True)
        _write_marked(head, folder / "models" / head)
    loads: list[float] = []
    first = _noted("Annotator, first half", loads, partial(in_process, halves[0], folder / "a", config))
    rays: dict[str, tuple[int, Run]] = {}
    for name, actors, cores in _ON_RAY if len(os.sched_getaffinity(0)) > 1 else _ON_RAY[:1]:
        way = partial(on_ray, corpus, folder / f"ray-{actors}-{cores}", config, actors, cores)
        rays[name] = (cores, _noted(name, loads, way))
    second = _noted("Annotator, second half", loads, partial(in_process, halves[1], folder / "b", config))
    alone = first.and_then(second)
    runs = {"in-process `Annotator`": (1, alone), **rays}
    for name, (_, run) in runs.items():
        if (run.documents, run.mentions) != (len(table), alone.mentions):
            sys.exit(f"{name}: {run.documents} documents with {run.mentions} mentions: not the same work")
    script = _noted("plain", loads, partial(plain, sample, folder / "plain", folder / "models", rows))
    runs[f"plain transformers script ({script.documents} documents, extrapolated)"] = (
        1,
        extrapolated(script, len(table)),
    )
    heading = (
        f"{circumstances('ray', 'torch', 'transformers')}; {len(table):,} documents of"
        f" {sum(map(len, table['text'].to_pylist())) / len(table):.0f} characters in fragments of"
        f" {config.output.max_rows}. Load of the machine before each run: {', '.join(map(_figure, loads))}."
    )
    content = "\n\n".join(
        [heading, times(runs), "\n".join(f"* {line}" for line in findings([run for _, run in runs.values()]))]
    )
    print(f"\n{content}", flush=True)
    return content


def extrapolated(run: Run, documents: int) -> Run:
    """The same way over more documents at its steady rate, with its start."""
    share = documents / run.documents
    seconds = documents / run.steady + run.around
    cpu = (run.cpu - run.around) * share + run.around
    return replace(run, documents=documents, seconds=seconds, cpu=cpu)


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


def findings(runs: list[Run]) -> list[str]:
    """What the figures say, in lines. `runs`: the Annotator, those on Ray, the plain script."""
    alone, one, *others, script = runs
    lines = [f"{_over(one, alone)} with one actor and one core for everything."]
    if others:
        beside, two = others
        lines.append(f"{_over(beside, alone)} with one actor where its own processes have a second core.")
        lines.append(
            f"Two actors on two cores do {one.seconds / two.seconds:.2f} times one actor on one core in all,"
            f" {two.steady / one.steady:.2f} times in the steady state; {beside.seconds / two.seconds:.2f}"
            f" and {two.steady / beside.steady:.2f} times one actor on two cores."
        )
    lines.append(
        f"The plain script does {script.steady:.2f} documents/s: the `Annotator` is"
        f" {alone.steady / script.steady:.2f} times as fast, Ray with one actor on one core"
        f" {one.steady / script.steady:.2f} times."
    )
    held = max(run.actor for run in (one, *others))
    lines.append(f"A model actor and its child process hold {held / 1e6:.0f} MB (RssAnon) at most.")
    return lines


def _over(run: Run, alone: Run) -> str:
    return (
        f"Ray takes {run.seconds / alone.seconds - 1:+.1%} of the in-process time in all,"
        f" {alone.steady / run.steady - 1:+.1%} in the steady state, {run.cpu / alone.cpu - 1:+.1%} CPU time,"
    )


def repeated(table: pa.Table, documents: int) -> pa.Table:
    """`table` over and over up to so many documents, in an order that spreads neighbours, under own ids."""
    places = np.arange(documents) % len(table)
    # Neighbours are alike (one language, one length); a stride without common divisor mixes them.
    stride = next(step for step in range(len(table) // 3 + 1, 2 * len(table)) if np.gcd(step, len(table)) == 1)
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
