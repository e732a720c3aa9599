"""`luke-batch finetune` with two Ray Train workers: the model that comes out, and a run that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from transformers import LukeForEntitySpanClassification, LukeTokenizer

from luke_batch import Annotator, JobConfig
from luke_batch.config import ModelConfig
from luke_batch.distributed.finetune import Resources, finetune
from luke_batch.model.engine.engine import Task, load_engine
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.curve import read_curve
from luke_batch.training.plan import run_folder
from luke_batch.training.settings import FinetuneConfig
from tests.annotated_rows import annotated_rows, put_rows
from tests.checkpoints import Recipe, make

ROOT = Path(__file__).parents[2]
STEPS = 24


@dataclass(frozen=True)
class Case:
    """What two runs have in common."""

    train: str
    dev: str
    config: FinetuneConfig
    folder: Path


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """500 rows, and a small LUKE checkpoint as their base."""
    folder = tmp_path_factory.mktemp("finetune")
    make(folder / "base", Recipe())
    return Case(
        train=put_rows(folder / "data" / "train.parquet", annotated_rows(500)),
        dev=put_rows(folder / "data" / "dev.parquet", annotated_rows(40, seed=1)),
        config=FinetuneConfig(
            heads=("ner",),
            base=str(folder / "base"),
            steps=STEPS,
            workers=2,
            batch_tokens=512,
            learning_rate=5e-3,
            head_learning_rate=2e-2,
            evaluations=2,
            allow_overlap=True,  # few names make many texts twice
        ),
        folder=folder,
    )


@pytest.fixture(scope="module")
def model(case: Case, ray_session: None) -> Path:  # noqa: ARG001 - it runs there
    """The model of a run that nobody disturbed."""
    output = case.folder / "model"
    finetune(case.train, str(output), case.config, case.dev, Resources(num_cpus=0.5), quiet=True)
    return output


def test_the_model_is_one_of_transformers_own(model: Path) -> None:
    """Its class loads every weight, its tokenizer gives our ids, and the logits are those of our engine."""
    text, spans = "Marie lives in Oslo .", [(0, 5), (15, 19), (6, 11)]
    loading: Any = LukeForEntitySpanClassification.from_pretrained(model, output_loading_info=True)
    theirs, told = loading
    assert not any(told.values()), told
    tokenizer = LukeTokenizer.from_pretrained(model, task="entity_span_classification")
    inputs = tokenizer(text, entity_spans=spans, return_tensors="pt")
    with torch.inference_mode():
        expected = theirs.eval()(**inputs).logits[0].numpy()
    builder = InputBuilder(Tokenizer.load(model))
    nothing = np.zeros(0, np.int32)
    window = builder.mention_window(builder.tokenize(text, np.array(spans, np.int32)), nothing, nothing)
    assert window.token_ids.tolist() == inputs["input_ids"][0].tolist()
    engine = load_engine(ModelConfig(path=str(model)), resolve(str(model)), [Task.NER], "cpu")
    (found,) = engine.run(Task.NER, [window])
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, float(np.sqrt((expected**2).mean()))))
    assert theirs.config.id2label == {0: "NIL", 1: "LOC", 2: "ORG", 3: "PER"}


def test_the_folder_tells_how_the_model_came_to_be(case: Case, model: Path) -> None:
    """Card, record and curves; no folder of this machine; no state of the run is left."""
    record = json.loads((model / "training.json").read_text())
    card = (model / "README.md").read_text()
    assert record["steps"] == STEPS
    assert record["workers"] == 2
    assert record["data"]["train"][0]["rows"] == 500
    assert [point["step"] for point in record["curve"] if "dev" in point] == [STEPS // 2, STEPS]
    assert "luke-batch finetune TRAIN OUTPUT_MODEL --head ner --dev DEV --base base" in card
    assert str(case.folder) not in card + (model / "training.json").read_text()
    assert (model / "curves.svg").read_text().startswith("<?xml")
    assert not run_folder(model).exists()


def test_annotate_uses_the_model(model: Path) -> None:
    """The labels of the data come out of `Annotator`, and the longest span is that of the data."""
    config = JobConfig.model_validate({"heads": [{"head": "ner", "model": str(model)}]})
    table = pa.table({"id": ["1"], "text": ["Marie lives in Oslo and works for Acme since 1950 ."]})
    (mentions,) = Annotator.from_config(config).annotate(table)["mentions"].to_pylist()
    assert {mention["label"] for mention in mentions} <= {"PER", "LOC", "ORG"}
    assert resolve(str(model)).heads["ner"].max_words == 2


def test_the_same_call_again_does_nothing(case: Case, model: Path) -> None:
    """A finished model is neither trained again nor written."""
    before = (model / "model.safetensors").stat().st_mtime_ns
    found = finetune(case.train, str(model), case.config, case.dev)
    assert found.was_there
    assert (model / "model.safetensors").stat().st_mtime_ns == before


def test_a_killed_run_goes_on_to_the_same_weights(case: Case, model: Path) -> None:
    """SIGKILL to the driver, Ray and all workers at half of the steps; the same call then ends as if nothing
    had been.
    """
    output = case.folder / "killed"
    run = run_folder(output)
    driver = subprocess.Popen(
        [sys.executable, "-c", "from luke_batch.cli import main; main()", *_arguments(case, output)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 400
        while not ((run / "checkpoint.pt").exists() and _step(run) >= STEPS // 2):
            assert driver.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        for process in [driver.pid, *_descendants(driver.pid)]:
            os.kill(process, signal.SIGKILL)
        driver.wait()
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert 0 < state["step"] < STEPS
    assert not output.exists()
    finetune(case.train, str(output), case.config, case.dev, Resources(num_cpus=0.5), quiet=True)
    expected, found = (load_file(folder / "model.safetensors") for folder in (model, output))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-5, msg=name)


def _arguments(case: Case, output: Path) -> list[str]:
    """The command of that run, with a checkpoint after every step."""
    config = case.config
    options = {
        "--head": "ner",
        "--dev": case.dev,
        "--base": config.base,
        "--steps": config.steps,
        "--workers": config.workers,
        "--batch-tokens": config.batch_tokens,
        "--learning-rate": config.learning_rate,
        "--head-learning-rate": config.head_learning_rate,
        "--evaluations": config.evaluations,
        "--num-cpus": 0.5,
        "--checkpoint-seconds": 0.01,
        "--address": "local",
    }
    listed = ["--allow-overlap"] + [word for option, value in options.items() for word in (option, str(value))]
    return ["finetune", case.train, str(output), *listed]


def _step(run: Path) -> int:
    """How far the curve says the run is."""
    points = read_curve(run / "curve.jsonl")
    return points[-1]["step"] if points else 0


def _descendants(process: int) -> list[int]:
    """All processes below one, at present."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    parents = {int(pid): int(parent) for pid, parent in map(str.split, listed.stdout.splitlines())}
    below = [pid for pid, parent in parents.items() if parent == process]
    return below + [deeper for child in below for deeper in _descendants(child)]
