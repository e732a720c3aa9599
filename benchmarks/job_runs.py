"""The ways to annotate a corpus that `benchmarks.job` compares, each a process on its own cores."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.watching import Watch
from luke_batch.config import InputConfig, JobConfig, OutputConfig

_LUKE_BATCH = ("-c", "from luke_batch.cli import main; main()")


@dataclass(frozen=True, slots=True)
class Run:
    """What a way took."""

    documents: int
    mentions: int
    """Found in these documents."""
    seconds: float
    """From the start of the command to its end."""
    steady: float
    """Documents a second between the first files of the output and its last, one first file a worker."""
    cpu: float
    """Seconds of all its processes."""
    peak: int
    """Bytes of all its processes, at most: proportional set sizes."""
    actor: int = 0
    """Bytes of a model actor, at most: RssAnon of the worker and its child process."""

    @property
    def rate(self) -> float:
        """Documents a second, start and end included."""
        return self.documents / self.seconds

    @property
    def around(self) -> float:
        """Seconds of start and end: what the documents at the steady rate leave of the whole."""
        return self.seconds - self.documents / self.steady

    def and_then(self, other: "Run") -> "Run":
        """Two runs over the two halves of a corpus as one: the second needs no start of its own."""
        documents = self.documents + other.documents
        steady = documents / (self.documents / self.steady + other.documents / other.steady)
        around = (self.around + other.around) / 2
        return Run(
            documents,
            self.mentions + other.mentions,
            documents / steady + around,
            steady,
            (self.cpu + other.cpu) - around,
            max(self.peak, other.peak),
        )


def job(rows: int, language: bool) -> JobConfig:
    """The default job in fragments of `rows` documents."""
    return JobConfig(input=InputConfig(lang_column="lang" if language else None), output=OutputConfig(max_rows=rows))


def in_process(input: Path, output: Path, config: JobConfig) -> Run:
    """The Annotator on one core."""
    command = ["-m", "benchmarks.in_process", str(input), str(output), "--config", config.model_dump_json()]
    return measured(command, output, cores=1)


def on_ray(input: Path, output: Path, config: JobConfig, actors: int, cores: int) -> Run:
    """`luke-batch annotate` on a local Ray, all of whose processes share `cores` cores."""
    settings = [f"models.main.actors={actors}", f"output.max_rows={config.output.max_rows}"]
    if config.input.lang_column is not None:
        settings.append(f"input.lang_column={config.input.lang_column}")
    assignments = [part for setting in settings for part in ("--set", setting)]
    places = [str(input), str(output), "--address", "local", "--quiet"]
    return measured([*_LUKE_BATCH, "annotate", *places, *assignments], output / "data", cores, actors)


def plain(input: Path, output: Path, models: Path, rows: int) -> Run:
    """The plain script around transformers on one core."""
    places = [str(input), str(output), str(models)]
    return measured(["-m", "benchmarks.plain_annotation", *places, "--rows", str(rows)], output, cores=1)


def measured(command: Sequence[str], output: Path, cores: int, workers: int = 1) -> Run:
    """Run a Python command on the first `cores` cores that this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment.pop("RAY_ADDRESS", None)
    watch = Watch()
    os.sched_setaffinity(0, allowed[:cores])  # what a process may use, its children inherit
    try:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.PIPE, text=True)
    finally:
        os.sched_setaffinity(0, allowed)
    watcher = watch.start(process.pid)
    said = process.communicate()[1]
    seconds = time.perf_counter() - started
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}: {said}")
    documents, mentions, steady = _found(output, workers)
    return Run(documents, mentions, seconds, steady, watch.cpu_seconds, watch.peak, watch.actor)


def _found(output: Path, workers: int) -> tuple[int, int, float]:
    """Documents and mentions in the files of `output`, and documents a second after the first files."""
    files = sorted(output.rglob("*.parquet"), key=lambda file: file.stat().st_mtime)
    rows = [pq.read_metadata(file).num_rows for file in files]
    mentions = sum(
        len(pq.read_table(file, columns=["mentions"])["mentions"].combine_chunks().flatten()) for file in files
    )
    times = [file.stat().st_mtime for file in files]
    return sum(rows), mentions, sum(rows[workers:]) / (times[-1] - times[workers - 1])
