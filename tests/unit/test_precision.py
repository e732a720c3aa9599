"""`precision: auto`: when a faster precision is tried, what it has to show, and that it stays decided."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from luke_batch.annotate.agreement import LEAST_LABELS, ComparedEngine, Found, Tally, same_labels
from luke_batch.base.arrays import FloatArray
from luke_batch.config import InputConfig, JobConfig, ModelConfig
from luke_batch.corpus.manifest import RunManifest, write_manifest
from luke_batch.distributed import precision
from luke_batch.distributed.planning import Prepared, prepare
from luke_batch.model.engine import device
from luke_batch.model.engine.device import faster_precision
from luke_batch.model.engine.engine import Engine, Task, load_engine
from luke_batch.model.files.checkpoint import Checkpoint, resolve
from luke_batch.model.files.facts import HeadFacts
from luke_batch.model.inputs.windows import Window
from tests.corpora import put


def rows(*values: Sequence[float]) -> FloatArray:
    """An output."""
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("task", "facts", "one", "other", "same"),
    [
        (Task.NER, HeadFacts(), rows([1, 2, 0], [3, 0, 0]), rows([1, 1.9, 0], [0, 0, 3]), [True, False]),
        (Task.TYPES, HeadFacts(), rows([1, 2])[0], rows([2, 1])[0], [False]),
        (Task.RELATIONS, HeadFacts(multi_label=True, threshold=0.5), rows([1, -1])[0], rows([2, -2])[0], [True]),
        (Task.RELATIONS, HeadFacts(multi_label=True, threshold=0.5), rows([2, -1])[0], rows([2, 1])[0], [False]),
        (Task.TYPES, HeadFacts(multi_label=True, threshold=0.9), rows([2, 0])[0], rows([2.1, 1])[0], [True]),
        (
            Task.TYPES,
            HeadFacts(multi_label=True, threshold=0.9),
            rows([2, 0])[0],
            rows([2.3, 0])[0],
            [False],
        ),
        (Task.MENTIONS, HeadFacts(), rows([1, 0], [1, 0]), rows([2, 0], [1, 0.2]), [True, False]),
        (Task.QA, HeadFacts(), rows([0, 1], [5, 0]), rows([0, 1], [5, 2]), [True, False]),
        (Task.CLOZE, HeadFacts(), rows([7, -1], [8, -2])[None], rows([7, -2], [9, -2])[None], [True]),
        (Task.SEQUENCE, HeadFacts(regression=True), rows([1])[0], rows([1])[0], []),
        (Task.CHOICE, HeadFacts(), rows([1])[0], rows([1])[0], []),
        (Task.NER, HeadFacts(), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), []),
    ],
)
def test_labels_are_compared(
    task: Task, facts: HeadFacts, one: FloatArray, other: FloatArray, same: list[bool]
) -> None:
    """By the best label, by all labels at their threshold, by direction; not where nothing is decided."""
    assert same_labels(task, facts, one, other).tolist() == same


def test_agreement_needs_numbers() -> None:
    """Too few labels show nothing; one that differs may, and beyond that half a percent."""
    assert not Tally(LEAST_LABELS - 1, LEAST_LABELS - 1).shown
    assert Tally(LEAST_LABELS, LEAST_LABELS - 1).shown
    assert not Tally(LEAST_LABELS, LEAST_LABELS - 2).shown
    assert Tally(1000, 995).shown
    assert not Tally(1000, 994).shown


class _Constant:
    """An engine that gives the same for every window, or is out of its range."""

    def __init__(self, output: FloatArray | None) -> None:
        self._output = output

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        if self._output is None:
            raise FloatingPointError(f"{task} is not a number")
        return [self._output for _ in windows]


def test_a_precision_that_overflows_agrees_in_nothing(multi_head_folder: Path) -> None:
    """What is no number is no label, and the job goes on with those of the reference."""
    none = np.zeros(0, np.int32)
    windows = [Window(none, none, none.reshape(0, 2))] * 3
    found: Found = {}
    sound = _Constant(rows([1, 0, 0, 0], [0, 1, 0, 0]))
    for candidate in (sound, _Constant(None)):
        compared = ComparedEngine(sound, candidate, resolve(str(multi_head_folder)), found)
        assert len(compared.run(Task.NER, windows)) == 3
    assert found == {Task.NER: Tally(12, 6)}


class _Off:
    """An engine that is wrong in every label."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        return [-output for output in self._engine.run(task, windows)]


def exact(model: ModelConfig, checkpoint: Checkpoint, tasks: Collection[Task], device: str) -> Engine:
    """An engine in float32, whatever is asked."""
    return load_engine(model.model_copy(update={"precision": "float32"}), checkpoint, tasks, device)


@pytest.fixture
def job(tmp_path: Path, multi_head_folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, JobConfig]:
    """INPUT, OUTPUT and a job whose corpus is worth a trial of bfloat16."""
    monkeypatch.setattr(precision, "_LEAST_BYTES", 1)
    monkeypatch.setattr(precision, "faster_precision", lambda _: "bfloat16")  # whatever the CPU
    monkeypatch.setattr(precision, "load_engine", exact)  # half of random weights agrees in nothing
    texts = [f"Ada Lovelace met Charles Babbage in {number} London Road." for number in range(40)]
    put(tmp_path, "in/a.parquet", pa.table({"id": texts, "text": texts}))
    heads = [{"head": "ner", "spans": "all"}, {"head": "types", "spans": "all"}]
    config = JobConfig.model_validate(
        {"models": {"main": {"path": str(multi_head_folder)}}, "heads": heads, "input": InputConfig()}
    )
    return str(tmp_path / "in"), str(tmp_path / "out"), config


def decided(prepared: Prepared) -> str:
    """What `auto` stands for."""
    return prepared.config.models["main"].precision


def test_a_precision_that_agrees_is_taken(job: tuple[str, str, JobConfig]) -> None:
    """It is part of the fingerprint, as if it had been asked for; what was found is told."""
    input, output, config = job
    found = prepare(input, output, config)
    assert decided(found) == "bfloat16"
    assert "ner " in next(iter(found.agreements.values()))
    asked = config.with_models(lambda model: model.model_copy(update={"precision": "bfloat16"}))
    assert prepare(input, output, asked).plan.fingerprint == found.plan.fingerprint


def test_one_that_does_not_is_not(job: tuple[str, str, JobConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial says how far it was off."""

    def load(model: ModelConfig, checkpoint: Checkpoint, tasks: Collection[Task], device: str) -> Engine:
        engine = exact(model, checkpoint, tasks, device)
        return _Off(engine) if model.precision == "bfloat16" else engine

    monkeypatch.setattr(precision, "load_engine", load)
    found = prepare(*job)
    assert decided(found) == "float32"
    assert "ner 0 of" in next(iter(found.agreements.values()))


def test_a_decision_stays(job: tuple[str, str, JobConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run of OUTPUT tries nothing, also where the corpus became small; another job decides anew."""
    input, output, config = job
    first = prepare(input, output, config)
    settings = first.config.model_dump(mode="json")
    write_manifest(first.plan.output, RunManifest.start("1", "in", first.plan, settings, datetime.now(UTC)))
    monkeypatch.setattr(precision, "_LEAST_BYTES", 2**40)
    again = prepare(input, output, config)
    assert (decided(again), again.agreements) == ("bfloat16", {})
    assert again.plan.fingerprint == first.plan.fingerprint
    other = config.model_copy(update={"heads": config.heads[:1]})
    assert decided(prepare(input, output, other)) == "float32"


def test_a_small_corpus_is_not_worth_a_trial(job: tuple[str, str, JobConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is loaded for it."""
    monkeypatch.setattr(precision, "_LEAST_BYTES", 2**20)
    monkeypatch.setattr(precision, "ModelStage", None)
    assert decided(prepare(*job)) == "float32"


def test_what_may_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the reference engine, and not for a GPU that is not here."""
    assert faster_precision(ModelConfig(engine="transformers")) is None
    assert faster_precision(ModelConfig(num_gpus=1)) is None  # no machine of the tests has one
    for able, faster in ((True, "bfloat16"), (False, None)):
        monkeypatch.setattr(device, "multiplies_bfloat16", lambda able=able: able)
        assert faster_precision(ModelConfig()) == faster
