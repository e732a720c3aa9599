"""Fine-tuning on Ray Train: checks and plan here, the same work in every worker, the result published here.

Ray Train starts the workers and their process group, and starts them anew where one is lost. Checkpoints are files of
ours (`training/plan.py`): they hold the state of all workers, and outlive the whole cluster.
"""

import os
import shutil
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TextIO

from luke_batch.base.errors import IncompleteError, InputError, LukeBatchError, OutputError, ResourceError
from luke_batch.corpus.lease import Lease, running
from luke_batch.corpus.manifest import new_run_id
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.preflight import Place, refuse_local, refuse_relative
from luke_batch.distributed.progress import duration
from luke_batch.distributed.resources import Demand, plan_pools
from luke_batch.model.files.fetch import is_relative as is_relative_model
from luke_batch.training.curve import Point, parse
from luke_batch.training.plan import PLAN, TrainingPlan, make_plan, run_folder
from luke_batch.training.settings import FinetuneConfig
from luke_batch.training.work import CURVE, MODEL, TrainingWorker

_LINE_SECONDS = 10.0
_RESTARTS = 2
"""How often lost workers are replaced within one command."""
_LOOK_SECONDS = 0.5
_LEASE_SECONDS = 60.0
"""So long after its last sign of life a run that crashed on another machine keeps others from OUTPUT_MODEL."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What each worker asks Ray for."""

    num_cpus: float = 1
    num_gpus: float = 0
    shared: bool = False
    """Local paths are mounted on every node of the cluster."""


@dataclass(frozen=True, slots=True)
class Finetuned:
    """A finished model."""

    output: Path
    plan: TrainingPlan
    was_there: bool
    """The same command had finished before: nothing was done."""


class Follower:
    """Reads the lines that the first worker appends to the curve, and shows them."""

    def __init__(self, curve: Path, stream: TextIO | None, line_seconds: float = _LINE_SECONDS) -> None:
        """Show on `stream`; on nothing where that is None. Lines that are there already are not shown."""
        self._curve = curve
        self._stream = stream
        self._line_seconds = line_seconds
        self._place = curve.stat().st_size if curve.exists() else 0
        self._first: Point | None = None
        self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.look()

    def look(self) -> None:
        """Show what has come: notes, every dev score, and losses every ten seconds."""
        if self._stream is None or not self._curve.exists():
            return
        with self._curve.open("rb") as file:
            file.seek(self._place)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._place += len(whole)
        for point in parse(whole.decode().splitlines()):
            if "note" in point:
                self._stream.write(point["note"] + "\n")
                continue
            self._first = self._first or point
            due = time.monotonic() - self._shown >= self._line_seconds or point["step"] == point["steps"]
            if "dev" in point or due:
                self._shown = time.monotonic()
                self._stream.write(describe(point, self._first) + "\n")
                self._stream.flush()


def describe(point: Point, first: Point) -> str:
    """One line: how far, rate and time left since `first`, losses or dev scores."""
    parts = [f"step {point['step']:,}/{point['steps']:,}"]
    if "dev" in point:
        return ", ".join([*parts, *(f"dev {name} {100 * value:.1f}" for name, value in point["dev"].items())])
    parts += [f"loss {name} {value:.3f}" for name, value in sorted(point["losses"].items())]
    steps, seconds = point["step"] - first["step"], point["seconds"] - first["seconds"]
    if steps > 0 and seconds > 0:
        shown = sum(point["examples"].values()) - sum(first.get("examples", {}).values())
        left = seconds / steps * (point["steps"] - point["step"])
        parts += [f"{shown / seconds:,.1f} examples/s a worker", f"{duration(left)} left"]
    return ", ".join(parts)


def finetune(
    train: str,
    output: str,
    config: FinetuneConfig,
    dev: str | None = None,
    resources: Resources | None = None,
    address: str | None = None,
    *,
    quiet: bool = False,
) -> Finetuned:
    """Train a model from the files of `train` and write it to the folder `output`.

    The same call goes on where a killed one was, and returns at once where the model is finished.

    Args:
        train: file, folder or glob of Parquet.
        output: a local folder that does not exist, is empty, or holds the model of this very call.
        config: how.
        dev: as `train`; the best state by its scores is kept, and scores are calibrated on it.
        resources: of each worker.
        address: Ray cluster (`auto`, `local`, HOST:PORT); None: the Ray that runs in this process, else RAY_ADDRESS,
            else a local one for this run.
        quiet: show no progress.

    Raises:
        UsageError: something cannot be used, or another run is at work on OUTPUT_MODEL.
        IncompleteError: the run was stopped, its workers were lost again and again, or another run has taken over.
    """
    resources = resources or Resources()
    if "://" in output:
        raise OutputError(f"OUTPUT_MODEL {output} is a URL; train into a local folder and copy it there")
    refuse_relative(_places(train, dev, output), os.environ)
    if is_relative_model(config.base):
        refuse_relative([("--base", config.base, InputError)], os.environ)
    folder = Path(output).expanduser().absolute()
    run, dev = run_folder(folder), None if dev is None else _absolute(dev)
    lease = Lease(Storage.at(str(run)), new_run_id(datetime.now(UTC)), _LEASE_SECONDS, f"OUTPUT_MODEL {output}")
    try:
        with lease:
            plan, finished = make_plan(_absolute(train), dev, config, folder, lease.take)
            if finished:
                return Finetuned(folder, plan, was_there=True)
            if not (run / MODEL).exists():
                _train(run, plan, resources, address, None if quiet else sys.stderr, lease)
            lease.check()
            if folder.exists():
                folder.rmdir()
            (run / MODEL).rename(folder)
            (run / PLAN).unlink()
    finally:
        # Finished, or refused before it began: nothing to go on with, but for what another run is at.
        if run.exists() and not (run / PLAN).exists() and running(Storage.at(str(run))) is None:
            shutil.rmtree(run, ignore_errors=True)
    return Finetuned(folder, plan, was_there=False)


def _places(train: str, dev: str | None, output: str) -> list[Place]:
    given: list[Place] = [] if dev is None else [("DEV", dev, InputError)]
    return [("TRAIN", train, InputError), ("OUTPUT_MODEL", output, OutputError), *given]


def _absolute(location: str) -> str:
    """Workers have another working directory."""
    return location if "://" in location else str(Path(location).expanduser().absolute())


def _train(
    run: Path, plan: TrainingPlan, resources: Resources, address: str | None, stream: TextIO | None, lease: Lease
) -> None:
    # Here, not above: a finished model must not pay for Ray.
    from luke_batch.distributed.cluster import connected, nodes, stoppable

    with connected(address), stoppable():
        found = nodes()
        cure = "folders that are mounted on every node, together with --shared"
        refuse_local(_places(plan.train, plan.dev, str(run)), len(found), cure, shared=resources.shared)
        workers = plan.config.workers
        plan_pools(found, [Demand("worker", resources.num_cpus, resources.num_gpus, workers)], workers)
        with Follower(run / CURVE, stream) as follower:
            _fit(run, plan, resources, follower, lease)
    if not (run / MODEL).exists():
        raise IncompleteError(f"the workers ended without a model in {run}; run the same command again")


def _fit(run: Path, plan: TrainingPlan, resources: Resources, follower: Follower, lease: Lease) -> None:
    """Run the workers to their end; in a thread, since this one shows progress and takes signals."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    gpus = {"GPU": resources.num_gpus} if resources.num_gpus else {}
    trainer = TorchTrainer(
        work,
        train_loop_config={"run": str(run)},
        scaling_config=ScalingConfig(
            num_workers=plan.config.workers,
            use_gpu=resources.num_gpus > 0,
            resources_per_worker={"CPU": resources.num_cpus, **gpus},
        ),
        run_config=RunConfig(
            name=f"attempt-{time.time_ns()}",
            storage_path=str(run / "ray"),
            failure_config=FailureConfig(max_failures=_RESTARTS),
        ),
    )
    failures: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=fit, daemon=True, name="luke-batch finetune")
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_SECONDS)
        follower.look()
        if lease.lost:
            lease.check()
    if failures:
        raise _plain(failures[0]) from failures[0]


def work(settings: dict[str, Any]) -> None:
    """What Ray Train runs in every worker process."""
    from ray.train.torch import get_device

    from luke_batch.training.parallel import WorkerGroup

    device = str(get_device())
    TrainingWorker(Path(settings["run"]), WorkerGroup.of_process(device)).train()


def _plain(error: BaseException) -> LukeBatchError:
    """Our own error out of what Ray Train wraps around it; else the workers' first one in a line."""
    inner: list[BaseException] = [error]
    causes: dict[int, BaseException] = getattr(error, "worker_failures", {})
    inner += causes.values()
    for failure in list(inner):
        seen: BaseException | None = failure
        while seen is not None:
            if isinstance(seen, LukeBatchError):
                return seen
            seen = getattr(seen, "_base_exc", None) or getattr(seen, "cause", None) or seen.__cause__
    first = next(iter(causes.values()), error)
    reason = " ".join(str(first).strip().splitlines()[-1:]) or type(first).__name__
    if isinstance(first, MemoryError):
        return ResourceError(f"a worker has no memory: {reason}; lower --batch-tokens or --workers")
    return IncompleteError(
        f"training stopped: {reason}; if it was memory, lower --batch-tokens or --workers; the same command"
        " goes on from the last checkpoint"
    )
