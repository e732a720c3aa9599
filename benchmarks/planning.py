"""How long planning takes over many files: `make bench-plan`, or `python -m benchmarks.planning --files N`.

A corpus of small files is made in a temporary folder, a hundred files a partition, and annotated by a
stand-in that copies one output for each fragment: planning looks at names and footers alone. Then are timed

    plan, all new        `luke-batch plan`, a process of its own: every footer is read, work items are packed
    first no-op night    `luke-batch annotate` where all is done and no footer is known from before
    no-op night          the same again, as on every later night
    reading footers      in one thread, and in as many as a plan takes, within this process

The first three include the start of the interpreter and the check of the embedded model, and fail where torch
or Ray was loaded; so the precision is given, which `auto` finds out with the model. Seconds depend on the machine
and its other work; the ratios in the last column do less.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.config import JobConfig
from luke_batch.corpus.footers import inspect, inspect_all
from luke_batch.corpus.sources import list_sources
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.planning import prepare

_FILES_IN_A_PARTITION = 100
_SETTLED_SECONDS = 3.0
"""After which a file that was just written may be noted as known."""
_COMMAND = (
    "import sys; from luke_batch.cli import run; code = run(sys.argv[1:]);"
    "sys.exit(code or 100 * len({'ray', 'torch'} & set(sys.modules)))"
)


def make_corpus(folder: Path, files: int) -> None:
    """`files` files of two documents."""
    table = pa.table({"id": ["a", "b"], "text": ["Marie Curie was born in Warsaw.", "She moved to Paris."]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content = sink.getvalue().to_pybytes()
    for number in range(files):
        path = folder / f"part={number // _FILES_IN_A_PARTITION:05}" / f"{number:07}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def commit_everything(input: Path, output: Path) -> None:
    """One output for each fragment of the plan, all with the same rows."""
    config = JobConfig.model_validate({"models": {"main": {"path": "embedded", "precision": "float32"}}})
    plan = prepare(str(input), str(output), config).plan
    content = next(input.rglob("*.parquet")).read_bytes()
    for item in plan.items:
        for fragment in item.fragments:
            path = output / fragment.output_path(plan.fingerprint)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def seconds_of(*arguments: str) -> float:
    """Wall time of a command in a process of its own."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _COMMAND, *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"luke-batch {' '.join(arguments)} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return time.perf_counter() - started


def seconds_of_footers(input: Path) -> tuple[float, float]:
    """In one thread, and in several."""
    sources = list_sources(str(input))
    started = time.perf_counter()
    for file in sources.files:
        inspect(sources.storage, file)
    between = time.perf_counter()
    for _ in inspect_all(Storage.at(str(input)), sources.files):
        pass
    return between - started, time.perf_counter() - between


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How long planning takes over many files.")
    parser.add_argument("--files", type=int, default=10_000)
    files: int = parser.parse_args().files
    with tempfile.TemporaryDirectory(prefix="luke-batch-planning-") as folder:
        input, output = Path(folder) / "in", Path(folder) / "out"
        make_corpus(input, files)
        time.sleep(_SETTLED_SECONDS)
        arguments = (str(input), str(output), "--set", "models.main.precision=float32")
        rows = {"plan, all new": (seconds_of("plan", *arguments), 60.0)}
        commit_everything(input, output)
        rows["first no-op night"] = (seconds_of("annotate", *arguments), 60.0)
        rows["no-op night"] = (seconds_of("annotate", *arguments), 5.0)
        one, several = seconds_of_footers(input)
    print(f"{files:,} files, {os.cpu_count()} cores\n")
    print(f"{'':<22}{'seconds':>9}{'limit':>7}{'of the first':>14}")
    first = rows["plan, all new"][0]
    for name, (seconds, limit) in rows.items():
        print(f"{name:<22}{seconds:>9.1f}{limit:>7.0f}{seconds / first:>14.2f}")
    print(f"\nfooters: {one:.1f} s in one thread, {several:.1f} s in several")


if __name__ == "__main__":
    main()
