"""`luke-batch annotate`, `replay` and `compact` as processes of their own, over a corpus of many small fragments."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from luke_batch.corpus.storage import DATA, RUNS, Storage
from tests.chaos.cluster import Cluster
from tests.chaos.processes import command_of, descendants, kill_all

_COMMAND = str(Path(sys.executable).with_name("luke-batch"))
_SETTINGS = ("input.lang_column=lang", "models.main.actors=2", "models.main.num_cpus=0.5",
             "output.max_rows=3", "output.lease_seconds=10", "input.mentions_column=given",
             "output.error_budget=1000")  # fmt: skip
_END_SECONDS = 400.0
_OUR_FRAME = re.compile(r'File "[^"]*/luke_batch/')


@dataclass(frozen=True)
class Job:
    """INPUT to OUTPUT, as often as it is started."""

    input: str
    output: str
    model: Path
    logs: Path
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    under: Sequence[str] = ()
    """What the command line begins with."""
    cluster: Cluster | None = None
    """Where it runs; None: on a local Ray of its own."""

    @property
    def storage(self) -> Storage:
        """OUTPUT."""
        return Storage.at(self.output)

    def start(self, *options: str, command: str = "annotate") -> "Run":
        """A run, under way."""
        self.logs.mkdir(exist_ok=True)
        settings = [f"--set={setting}" for setting in (*_SETTINGS, f"models.main.path={self.model}")]
        arguments = {
            "annotate": [self.input, self.output, *settings, *self.options],
            "replay": [self.output, *self.options],
            "compact": [self.output],
        }
        log = self.logs / f"{len(list(self.logs.iterdir())):03}.log"
        before = len(self.storage.list(".json", under=RUNS))
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*self.under, _COMMAND, command, *arguments[command], *options],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment,
            )
        return Run(self, process, log, before)


@dataclass
class Run:
    """One process of a job, with everything that it starts."""

    job: Job
    process: "subprocess.Popen[bytes]"
    log: Path
    runs_before: int
    seen: set[psutil.Process] = field(default_factory=lambda: set[psutil.Process]())
    """Processes below it so far."""

    @property
    def ended(self) -> bool:
        """Whether the driver is no more."""
        return self.process.poll() is not None

    def tree(self) -> list[psutil.Process]:
        """What lives below the driver and on the cluster now."""
        found = descendants(self.process.pid)
        self.seen.update(found)
        return found if self.job.cluster is None else found + self.job.cluster.tree()

    def reaches(self, committed: int) -> bool:
        """Wait until the run is at work and OUTPUT holds so many files; False where it ends before."""
        storage = self.job.storage
        while not self.ended:
            if len(storage.list(".json", under=RUNS)) > self.runs_before and (
                len(storage.list(".parquet", under=DATA)) >= committed
            ):
                return not self.ended
            time.sleep(0.02)
        return False

    def end(self) -> int:
        """Wait for the end; the exit code."""
        self.tree()
        try:
            return self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f"the run hangs: {self.said()}") from None

    def stop(self) -> None:
        """Kill it with everything below it."""
        self.seen.update(descendants(self.process.pid))
        self.process.kill()
        self.process.wait(30)
        self.left_over(0)

    def left_over(self, seconds: float) -> list[str]:
        """Processes of this run that outlive it by so long; they are killed then."""
        _, alive = psutil.wait_procs(self.seen, seconds)
        names = [command_of(process) for process in alive]
        kill_all(alive)
        return [name for name in names if name]

    def said(self) -> str:
        """Its standard output and error."""
        return self.log.read_text(errors="replace")

    def has_traceback(self) -> bool:
        """Whether it said where our code failed. Ray itself shows tracebacks for processes that it lost."""
        return _OUR_FRAME.search(self.said()) is not None
