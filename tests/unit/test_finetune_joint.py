"""Several heads over one encoder: types and relations learn from one pass over a sentence."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from luke_batch.annotate.annotator import Annotator
from luke_batch.cli import run
from luke_batch.config import JobConfig
from luke_batch.model.files.checkpoint import resolve
from luke_batch.training.batches import IGNORED, Example
from luke_batch.training.corpus import GoldEntity, GoldRelation, Row
from luke_batch.training.joint import JointOneRelation, JointRelations
from luke_batch.training.model import loss_of
from luke_batch.training.outputs import relations_outputs, types_outputs
from luke_batch.training.parallel import WorkerGroup
from luke_batch.training.plan import JOINT, TrainingPlan, input_builder, make_plan, run_folder
from luke_batch.training.settings import FinetuneConfig
from luke_batch.training.work import TrainingWorker
from tests.annotated_rows import annotated_rows, put_rows
from tests.checkpoints import Recipe, make

MENTION = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))


def worker(folder: Path, rows: list[dict[str, Any]], **options: Any) -> TrainingWorker:
    """A run of four steps from a tiny base, in this process, that has not begun."""
    base = make(folder / "base", Recipe())
    values: dict[str, Any] = {"heads": ("types", "relations"), "steps": 4, "batch_tokens": 128, **options}
    make_plan(
        put_rows(folder / "train.parquet", rows), None, FinetuneConfig(base=str(base), **values), folder / "model"
    )
    return TrainingWorker(run_folder(folder / "model"), WorkerGroup())


def test_one_pass_teaches_both_heads(tmp_path: Path) -> None:
    """Every step shows a sentence to types and relations alike; before, each had steps and windows of its own."""
    trained = worker(tmp_path, annotated_rows(12), heads=("ner", "types", "relations"))
    assert trained.plan.passes == {"ner": ("ner",), JOINT: ("types", "relations")}
    trained.train()
    seen = trained._trainer.progress.examples
    assert seen["types"] == seen["relations"] > 0
    assert trained._trainer.progress.losses.keys() == {"ner", "types", "relations"}
    facts = resolve(str(run_folder(tmp_path / "model") / "model")).heads
    assert (facts["types"].input, facts["relations"].input, facts["ner"].input) == ("joint", "joint", "marked")


def test_marked_on_demand(tmp_path: Path) -> None:
    """As before: a pass for each mention and each pair."""
    plan = worker(tmp_path, annotated_rows(12), input="marked").plan
    assert plan.passes == {"types": ("types",), "relations": ("relations",)}
    assert not any(head.spec.joint for head in plan.heads.values())


@pytest.mark.parametrize("several", [False, True])
def test_scores_on_dev_are_those_of_annotate(tmp_path: Path, several: bool) -> None:
    """What training measures is what the folder says: one label a pair, or several."""
    rows = annotated_rows(6)
    if several:
        rows[0]["relations"].append({"head": 0, "tail": 1, "label": "birthplace"})
    trained = worker(tmp_path, rows)
    trained.train()
    folder = run_folder(tmp_path / "model")
    plan, builder = TrainingPlan.read(folder), input_builder(folder / "start")
    types = types_outputs(trained._model, trained._rows, builder)
    relations = relations_outputs(trained._model, trained._rows, builder)
    heads: list[dict[str, Any]] = [
        {"head": "types", "spans": "given"},
        {"head": "relations", "spans": "given", "threshold": 1e-6},
    ]
    job = JobConfig.model_validate(
        {
            "models": {"main": {"path": str(folder / "model"), "precision": "float32"}},
            "input": {"mentions_column": "entities"},
            "heads": heads,
        }
    )
    table = pa.table({"text": [row["text"] for row in rows], "entities": [row["entities"] for row in rows]})
    found = Annotator.from_config(job).annotate(table).to_pylist()
    labels = plan.heads["types"].spec.labels
    best = [labels[number] for number in types.logits.argmax(1)]
    assert best == [mention["types"][0]["label"] for row in found for mention in row["mentions"]]
    spec = plan.heads["relations"].spec
    logits = torch.from_numpy(relations.logits)
    scores = (torch.sigmoid(logits) if several else torch.softmax(logits, 1)).numpy()
    pairs = [(row, head, tail) for row in range(6) for head in range(3) for tail in range(3) if head != tail]
    told = {
        (number, item["head"], item["tail"], item["label"]): item["score"]
        for number, row in enumerate(found)
        for item in row["relations"]
    }
    assert told
    for key, score in told.items():
        assert score == pytest.approx(scores[pairs.index(key[:3]), spec.labels.index(key[3])], abs=0.02)


def row_of(relations: list[tuple[int, int, str]]) -> Row:
    """A sentence with three mentions, and one around two of them."""
    spans = [(0, 3), (8, 10), (14, 18), (0, 10)]
    entities = tuple(GoldEntity(start, end, "X") for start, end in spans)
    return Row("r", "en", "s", "Ada met Bo in Rome", entities, tuple(GoldRelation(*item) for item in relations))


def test_which_pairs_are_asked() -> None:
    """None of a mention with itself or with one that it overlaps; with `given` those of the data alone."""
    row, spans = (
        row_of([(0, 1, "met"), (1, 2, "no_relation")]),
        np.array([(0, 3), (8, 10), (14, 18), (0, 10)], np.int32),
    )
    places = np.arange(4, dtype=np.int32)
    labels = ("no_relation", "met")
    nothing: Any = None
    every = JointOneRelation("r", (), labels, nothing, Counter(), given=False).targets(row, spans, places)[0]
    assert every[0, 1] == 1
    assert every[0, 0] == every[0, 3] == every[3, 1] == IGNORED
    assert (every == 0).sum() == 2 * (3 + 1) - 1
    given = JointOneRelation("r", (), labels, nothing, Counter(), given=True).targets(row, spans, places)[0]
    assert np.argwhere(given != IGNORED).tolist() == [[0, 1], [1, 2]]
    told, known = JointRelations("r", (), ("met",), nothing, Counter(), given=True).targets(row, spans, places)
    assert known is not None
    assert np.argwhere(known).tolist() == [[0, 1, 0], [1, 2, 0]]
    assert told.sum() == 1


def test_a_batch_that_says_nothing_of_a_head_has_no_loss() -> None:
    """Its mean would be one of nothing: NaN, and with it all weights."""
    logits = torch.zeros(2, 3, 4, requires_grad=True)
    assert loss_of(logits, torch.full((2, 3), IGNORED), None).item() == 0.0


def test_examples_of_one_head_are_as_before() -> None:
    """A window that one head reads has its targets itself."""
    nothing: Any = None
    assert not Example(nothing, np.zeros(1)).heads


def test_a_joint_head_is_of_no_class_of_transformers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`models convert --head` wrote a folder that reads marked windows with weights for joint ones."""
    trained = worker(tmp_path, annotated_rows(12))
    trained.train()
    model = str(run_folder(tmp_path / "model") / "model")
    for head in ("types", "relations"):
        assert run(["models", "convert", model, str(tmp_path / head), "--head", head]) == 2
        assert "input: joint" in capsys.readouterr().err
        assert not (tmp_path / head).exists()
