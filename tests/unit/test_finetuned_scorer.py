"""The span scorer of a fine-tuned `ner`: in its folder, in what `spans: auto` looks at, and why there is none."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from transformers import LukeForEntitySpanClassification

from luke_batch import Annotator, JobConfig
from luke_batch.base.errors import CheckpointError
from luke_batch.model.engine.span_scorer import SpanScorer
from luke_batch.model.files.checkpoint import SCORER_FILE, resolve
from luke_batch.model.files.weights import encoder_state
from luke_batch.model.writing.single_head import extract_head
from luke_batch.training import span_scorer, work
from luke_batch.training.curve import read_curve
from luke_batch.training.parallel import WorkerGroup
from luke_batch.training.plan import make_plan, run_folder
from luke_batch.training.settings import FinetuneConfig
from luke_batch.training.span_scorer import FittedScorer
from luke_batch.training.work import TrainingWorker
from tests.annotated_rows import annotated_rows, put_rows
from tests.checkpoints import Recipe, add_span_scorer, make, make_multi_head

_CONFIG = FinetuneConfig(
    heads=("ner",), steps=60, batch_tokens=512, evaluations=1, learning_rate=5e-3, head_learning_rate=2e-2,
    allow_overlap=True,
)  # fmt: skip


def _plan(folder: Path, rows: int = 150, dev: int = 50, **changes: Any) -> Path:
    """The folder of a run that has not begun."""
    config = _CONFIG.model_copy(update={"base": str(make(folder / "base", Recipe())), **changes})
    train = put_rows(folder / "train.parquet", annotated_rows(rows))
    tested = put_rows(folder / "dev.parquet", annotated_rows(dev, seed=1)) if dev else None
    make_plan(train, tested, config, folder / "model")
    return run_folder(folder / "model")


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]: autouse
    """Ten passes over this data are enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(span_scorer, "SHOWN", 30_000)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned `ner`."""
    run = _plan(tmp_path_factory.mktemp("scorer"))
    TrainingWorker(run, WorkerGroup()).train()
    return run / "model"


def test_a_fine_tuned_ner_has_a_scorer_of_its_own(model: Path) -> None:
    """In the folder and among the heads, as the engine reads it; said in card, record and log. Before: none, and
    `spans: auto` scored every candidate, also of a model trained from `embedded`, which has one.
    """
    checkpoint = resolve(str(model))
    assert set(checkpoint.heads) == {"ner", "spans", "embeddings"}
    assert 0 < (checkpoint.heads["spans"].threshold or 0) < 1
    SpanScorer(checkpoint)
    record, card = json.loads((model / "training.json").read_text()), (model / "README.md").read_text()
    assert record["span_scorer"].startswith("span scorer: spans: auto looks at ")
    assert record["span_scorer"] in card
    notes = [point["note"] for point in record["curve"] if "note" in point]
    assert len(notes) == 2, "for the words of the base, and for the trained ones"
    loading: Any = LukeForEntitySpanClassification.from_pretrained(model, output_loading_info=True)
    assert not any(loading[1].values())


def _annotated(model: Path, spans: str) -> tuple[set[tuple[Any, ...]], int]:
    """The right mentions, and how many spans were scored."""
    config = JobConfig.model_validate({"heads": [{"head": "ner", "model": str(model), "spans": [spans]}]})
    rows = annotated_rows(60, seed=2)
    table = pa.table({"id": [row["id"] for row in rows], "text": [row["text"] for row in rows]})
    found = Annotator.from_config(config).annotate(table)
    mentions = {
        (id, item["start"], item["end"], item["label"])
        for id, items in zip(table["id"].to_pylist(), found["mentions"].to_pylist(), strict=True)
        for item in items
    }
    gold = {(row["id"], *(item[key] for key in ("start", "end", "label"))) for row in rows for item in row["entities"]}
    return mentions & gold, sum(item["spans_scored"] for item in found["coverage"].to_pylist())


def test_auto_finds_what_all_finds_with_fewer_spans(model: Path) -> None:
    """At least 98.5% of the right mentions, from less than half of the spans."""
    every, scored = _annotated(model, "all")
    likely, looked_at = _annotated(model, "auto")
    assert len(every) > 100
    assert len(every & likely) >= 0.985 * len(every)
    assert looked_at < 0.5 * scored


def test_several_heads_have_it_in_their_manifest(tmp_path: Path) -> None:
    """Format 1 names it as the embedded model does."""
    run = _plan(tmp_path, heads=("ner", "types"), steps=4)
    TrainingWorker(run, WorkerGroup()).train()
    checkpoint = resolve(str(run / "model"))
    assert checkpoint.heads["spans"].labels == ("start", "end")
    SpanScorer(checkpoint)


@pytest.mark.parametrize(("rows", "dev", "counted"), [(150, 10, "450 .* and 30"), (20, 50, "60 .* and 150")])
def test_few_mentions_give_none_and_the_reason(tmp_path: Path, rows: int, dev: int, counted: str) -> None:
    """A recall of 99% cannot be told from some dozen mentions."""
    run = _plan(tmp_path, rows, dev, steps=2)
    TrainingWorker(run, WorkerGroup()).train()
    record = json.loads((run / "model" / "training.json").read_text())
    assert record["span_scorer"].startswith("no span scorer: ")
    assert record["span_scorer"] in (run / "model" / "README.md").read_text()
    pattern = f"no span scorer: {counted} to choose a threshold on"
    with pytest.raises(AssertionError, match=pattern):
        raise AssertionError(record["span_scorer"])
    assert "spans" not in resolve(str(run / "model")).heads
    assert not (run / "model" / SCORER_FILE).exists()


def test_without_dev_a_tenth_of_train_gives_the_threshold(tmp_path: Path) -> None:
    """And teaches nothing."""
    run = _plan(tmp_path, 400, 0, steps=2)
    TrainingWorker(run, WorkerGroup()).train()
    assert "spans" in resolve(str(run / "model")).heads


def test_a_resumed_run_keeps_its_scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It decides which spans the ner head is shown, so another one would change the weights."""
    run = _plan(tmp_path, steps=2)
    first = TrainingWorker(run, WorkerGroup())._scorer
    monkeypatch.setattr(work, "fit", lambda *_: pytest.fail("trained again"))
    again = TrainingWorker(run, WorkerGroup())._scorer
    assert isinstance(first, FittedScorer)
    assert isinstance(again, FittedScorer)
    assert again.threshold == first.threshold
    pairs = zip(first.net.state_dict().values(), again.net.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert [point["step"] for point in read_curve(run / "curve.jsonl")] == [0]


def test_words_that_stay_need_one_scorer(tmp_path: Path) -> None:
    """Frozen word embeddings are those that the scorer was trained for."""
    run = _plan(tmp_path, steps=2, freeze_words=True)
    TrainingWorker(run, WorkerGroup()).train()
    assert (run / "span_scorer.safetensors").exists()
    assert not (run / "span_scorer_trained.safetensors").exists()
    scorers = (load_file(run / "span_scorer.safetensors"), load_file(run / "model" / SCORER_FILE))
    assert all(torch.equal(item, scorers[1][name]) for name, item in scorers[0].items())


def test_one_head_of_a_model_takes_its_scorer_along(tmp_path: Path) -> None:
    """`models convert --head ner`; another head has no use for it. Before: lost."""
    source = add_span_scorer(make_multi_head(tmp_path / "model"), 0.25)
    extract_head(str(source), "ner", tmp_path / "ner")
    extract_head(str(source), "types", tmp_path / "types")
    found = resolve(str(tmp_path / "ner"))
    assert found.heads["spans"] == resolve(str(source)).heads["spans"]
    assert (found.folder / SCORER_FILE).read_bytes() == (source / SCORER_FILE).read_bytes()
    assert "spans" not in resolve(str(tmp_path / "types")).heads
    assert encoder_state(found).keys() == encoder_state(resolve(str(source))).keys()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"threshold": 2}, r"luke_batch\.threshold: Input should be less than 1"),
        (7, r"luke_batch\.: Input should be a valid dictionary"),
    ],
)
def test_a_section_that_cannot_be_right_is_refused(tmp_path: Path, section: Any, said: str) -> None:
    """And a folder that lost the scorer's file."""
    source = add_span_scorer(make_multi_head(tmp_path / "model"), 0.25)
    extract_head(str(source), "ner", tmp_path / "ner")
    file = tmp_path / "ner" / "config.json"
    config = json.loads(file.read_text())
    config["luke_batch"]["spans"] = section
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        resolve(str(tmp_path / "ner"))
    config["luke_batch"]["spans"] = {"threshold": 0.5}
    file.write_text(json.dumps(config))
    (tmp_path / "ner" / SCORER_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"no span_scorer\.safetensors; copy the whole folder"):
        resolve(str(tmp_path / "ner"))
