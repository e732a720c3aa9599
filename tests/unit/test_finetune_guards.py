"""What keeps a fine-tuning run from being spoilt: a second run on one folder, and a DEV that TRAIN contains."""

import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.base.errors import CheckpointError, IncompleteError, InputError, LeaseError
from luke_batch.cli import run
from luke_batch.corpus.lease import Holder, Lease, ProcessIdentity
from luke_batch.corpus.storage import Storage
from luke_batch.distributed import finetune as module
from luke_batch.distributed.finetune import finetune
from luke_batch.training.corpus import Row, TrainingCorpus
from luke_batch.training.leak import normalised, refuse_leak, shared_texts
from luke_batch.training.parallel import WorkerGroup
from luke_batch.training.plan import PLAN, make_plan, run_folder
from luke_batch.training.settings import FinetuneConfig
from luke_batch.training.work import TrainingWorker
from tests.annotated_rows import annotated_rows, put_rows
from tests.checkpoints import Recipe, make

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path) -> FinetuneConfig:
    """A run of few steps from a tiny checkpoint."""
    return FinetuneConfig(heads=("ner",), base=str(make(tmp_path / "base", Recipe())), steps=2, batch_tokens=128)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers' part without Ray."""

    def train(folder: Path, *_: object) -> None:
        TrainingWorker(folder, WorkerGroup()).train()

    monkeypatch.setattr(module, "_train", train)


def _lease(model: Path) -> Lease:
    return Lease(Storage.at(str(run_folder(model))), "first", 60)


# Two runs at once


@pytest.mark.usefixtures("in_process")
def test_a_second_run_on_one_folder_is_refused(
    tmp_path: Path, config: FinetuneConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2, with the holder and the cure; nothing of the first run is touched. Before: both trained
    into the same state, each over the other's checkpoints, and the one that ended last failed at the rename.
    """
    train, model = put_rows(tmp_path / "train.parquet", annotated_rows(12)), tmp_path / "model"
    with _lease(model) as first:
        first.take()
        (run_folder(model) / "start").mkdir()
        code = run(["finetune", train, str(model), "--head", "ner", "--base", config.base, "--steps", "2"])
        error = capsys.readouterr().err
        assert (code, error.count("\n")) == (2, 1)
        assert f"OUTPUT_MODEL {model} is in use by run first on " in error
        assert "wait for that run or stop it" in error
        assert (run_folder(model) / "start").exists()
    assert not finetune(train, str(model), config, quiet=True).was_there
    assert not run_folder(model).exists()
    assert finetune(train, str(model), config, quiet=True).was_there


@pytest.mark.usefixtures("in_process")
def test_a_run_that_starts_while_another_reads_its_data_is_refused(
    tmp_path: Path, config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found the folder free; the lease is taken before the first write."""
    train, model = put_rows(tmp_path / "train.parquet", annotated_rows(12)), tmp_path / "model"
    first = _lease(model)

    def slow(*given: object) -> object:
        first.take()
        return make_plan(*given)  # pyright: ignore[reportArgumentType]: as they came

    monkeypatch.setattr(module, "make_plan", slow)
    with first, pytest.raises(LeaseError, match="is in use by run first"):
        finetune(train, str(model), config, quiet=True)
    assert not (run_folder(model) / PLAN).exists()


@pytest.mark.usefixtures("in_process")
def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path, config: FinetuneConfig) -> None:
    """Its process has certainly ended, so nobody waits for the lease to expire."""
    script = (
        "import sys\nfrom luke_batch.corpus.lease import Lease\nfrom luke_batch.corpus.storage import Storage\n"
        "Lease(Storage.at(sys.argv[1]), 'killed', 600).take()\nprint('taken', flush=True)\nsys.stdin.read()\n"
    )
    train, model = put_rows(tmp_path / "train.parquet", annotated_rows(12)), tmp_path / "model"
    command = [sys.executable, "-c", script, str(run_folder(model))]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"taken\n"
        with pytest.raises(LeaseError, match="in use by run killed"):
            finetune(train, str(model), config, quiet=True)
        holder.kill()
    started = time.monotonic()
    assert not finetune(train, str(model), config, quiet=True).was_there
    assert time.monotonic() - started < 60


def test_a_run_that_was_overtaken_publishes_nothing(
    tmp_path: Path, config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood still for longer than its lease; the other goes on with the state. Before: it renamed the model away
    from under the other.
    """
    train, model = put_rows(tmp_path / "train.parquet", annotated_rows(12)), tmp_path / "model"

    def overtaken(folder: Path, *_: object) -> None:
        TrainingWorker(folder, WorkerGroup()).train()
        other = Holder("other", "far-away", 7, "2026-12-01T00:00:00+00:00", 60, asdict(ProcessIdentity("x", 7, "1")))
        lease = Lease(Storage.at(str(folder)), "other", 60)
        lease.number, lease._mine = 9, other
        lease._write(other)

    monkeypatch.setattr(module, "_train", overtaken)
    with pytest.raises(IncompleteError, match=f"another run has taken over OUTPUT_MODEL {model}"):
        finetune(train, str(model), config, quiet=True)
    assert not model.exists()
    assert (run_folder(model) / "model").exists()


@pytest.mark.usefixtures("in_process")
def test_a_refused_base_leaves_nothing(tmp_path: Path, config: FinetuneConfig) -> None:
    """Neither a state nor a lock."""
    train, model = put_rows(tmp_path / "train.parquet", annotated_rows(12)), tmp_path / "model"
    (tmp_path / "base" / "merges.txt").write_text("broken")
    (tmp_path / "base" / "vocab.json").write_text("{}")
    with pytest.raises(CheckpointError):
        finetune(train, str(model), config, quiet=True)
    assert not run_folder(model).exists()


# TRAIN in DEV


def _corpus(name: str, texts: list[str]) -> TrainingCorpus:
    return TrainingCorpus(name, [Row(str(n), "en", "t", text, (), ()) for n, text in enumerate(texts)])


def test_a_dev_that_train_contains_is_refused(tmp_path: Path, config: FinetuneConfig) -> None:
    """Counted, with the cure, before anything is written; allowed by a setting, and said in plan and card. Before: F1
    on texts that the model knows by heart, without a word.
    """
    rows = annotated_rows(40)
    train, model = put_rows(tmp_path / "train.parquet", rows), tmp_path / "model"
    spaced = [{**row, "text": row["text"] + "  "} for row in rows[:3]]
    dev = put_rows(tmp_path / "dev.parquet", [*annotated_rows(17, seed=9), *spaced])
    with pytest.raises(InputError, match=r"DEV: 3 of 20 texts \(15\.0%\) are in TRAIN as well.*--allow-overlap"):
        make_plan(train, dev, config, model)
    assert not run_folder(model).exists()
    allowed = config.model_copy(update={"allow_overlap": True})
    plan, _ = make_plan(train, dev, allowed, model)
    assert "DEV: 3 of 20 texts (15.0%) are in TRAIN as well" in plan.notes
    assert plan.identity == make_plan(train, dev, allowed, tmp_path / "again")[0].identity


def test_one_percent_may_recur() -> None:
    """Short sentences come twice by chance: 1 of 100 is let through, 2 are not."""
    train = _corpus("TRAIN", ["Yes .", "No ."])
    once = _corpus("DEV", [*(f"{n}" for n in range(99)), "Yes ."])
    refuse_leak(train, once)
    assert shared_texts(train, once) == 1
    with pytest.raises(InputError, match="2 of 100"):
        refuse_leak(train, _corpus("DEV", [*(f"{n}" for n in range(98)), "Yes .", "\tNo\u00a0\n."]))


@given(st.text(max_size=20), st.sampled_from([" ", "\n", "\u3000", " \t "]))
def test_texts_are_compared_without_their_whitespace(text: str, blank: str) -> None:
    """However it is written; a normalised text stays as it is."""
    assert normalised(normalised(text)) == normalised(text)
    assert normalised(f"{blank}{text}{blank}") == normalised(text)
    assert normalised(text.replace(" ", blank)) == normalised(text)
    assert normalised("Zu\u0308rich") == normalised("Z\u00fcrich")
