"""The word head of LukeForMaskedLM, whose decoder transformers 4 does not save, against values of 4.57.6."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from luke_batch.annotate.annotator import check_models
from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import CheckpointError
from luke_batch.config import JobConfig, ModelConfig
from luke_batch.model.engine import vocabulary_heads
from luke_batch.model.engine.engine import load_engine
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.fit import word_head_names
from luke_batch.model.files.weights import Table
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder, Window, around_gap
from luke_batch.model.task import Task
from tests.checkpoints import GOLDEN, Recipe, with_head
from tests.references import assert_close

Folders = Callable[[Recipe], Path]
WORD_TABLE = "luke.embeddings.word_embeddings.weight"


def golden_folder(kind: str, folder: Path) -> Path:
    """The checkpoint that 4.57.6 saved, with its tokenizer."""
    shutil.copytree(GOLDEN / f"{kind}-v4-layout", folder)
    return shutil.copytree(GOLDEN / f"word-head-{kind}", folder, dirs_exist_ok=True)


def golden_rows(kind: str) -> list[dict[str, Any]]:
    """Prompts with their inputs and logits."""
    return pq.read_table(GOLDEN / "word-heads.parquet", filters=[("kind", "==", kind)]).to_pylist()


def window_of(builder: InputBuilder, row: dict[str, Any]) -> Window:
    """The window of a prompt."""
    left, right = around_gap(builder, row["left"], row["right"])
    return builder.masked_window(left, row["masks"], right, entity=True)


def everything(window: Window, words: int, entities: int) -> Window:
    """The window with every id as a candidate: whole rows of log-probabilities, padded."""
    assert window.gaps is not None
    width = max(words, entities)
    rows = np.full((len(window.gaps.positions) + 1, width), -1, np.int32)
    rows[:-1, :words], rows[-1, :entities] = np.arange(words), np.arange(entities)
    return replace(window, gaps=replace(window.gaps, candidates=rows))


@pytest.mark.parametrize("engine", ["fast", "transformers"])
@pytest.mark.parametrize("kind", ["luke", "mluke"])
def test_equals_transformers_4(kind: str, engine: Literal["fast", "transformers"], tmp_path: Path) -> None:
    """Inputs token for token, and log-probabilities of every word and every entity."""
    checkpoint = resolve(str(golden_folder(kind, tmp_path / "model")))
    assert "lm_head.decoder.weight" not in checkpoint.tensors
    builder = InputBuilder(Tokenizer.load(checkpoint.folder))
    loaded = load_engine(ModelConfig(engine=engine), checkpoint, [Task.CLOZE], "cpu")
    rows = golden_rows(kind)
    sizes = checkpoint.setting("vocab_size"), checkpoint.setting("entity_vocab_size")
    windows = [everything(window_of(builder, row), *sizes) for row in rows]
    for row, window, found in zip(rows, windows, loaded.run(Task.CLOZE, windows), strict=True):
        assert window.token_ids.tolist() == row["input_ids"]
        assert window.entity_ids.tolist() == row["entity_ids"]
        assert list(range(*window.entity_spans[0])) == row["entity_positions"]
        assert_close(found[:-1, : sizes[0]], log_softmax(row["word_logits"]))
        assert_close(found[-1:, : sizes[1]], log_softmax([row["entity_logits"]]))
    assert len(rows) >= 6


def log_softmax(logits: list[list[float]]) -> FloatArray:
    """Of each row, in float64."""
    return torch.tensor(logits, dtype=torch.float64).log_softmax(-1).to(torch.float32).numpy()


def test_a_saved_decoder_is_read(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """The embeddings serve as decoder only where the file has none, as transformers 5 saves one."""
    folder = checkpoint_folder(with_head("cloze", Recipe()))
    checkpoint = resolve(str(folder))
    assert word_head_names(checkpoint)["decoder.weight"] == "lm_head.decoder.weight"
    tied = Path(shutil.copytree(folder, tmp_path / "tied"))
    state = load_file(folder / "model.safetensors")
    decoder = state.pop("lm_head.decoder.weight")
    assert not torch.equal(decoder, state[WORD_TABLE])
    save_file(state, tied / "model.safetensors", metadata={"format": "pt"})
    assert word_head_names(resolve(str(tied)))["decoder.weight"] == WORD_TABLE


def test_a_word_head_that_misfits_is_refused(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """The decoder alone can be mended; the message names what cannot."""
    folder = Path(shutil.copytree(checkpoint_folder(with_head("cloze", Recipe())), tmp_path / "model"))
    state = load_file(folder / "model.safetensors")
    del state["lm_head.dense.weight"]
    state["lm_head.decoder.weight"] = state["lm_head.decoder.weight"][:-1].clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    head = {"head": "cloze", "template": "[Y]", "model": str(folder)}
    with pytest.raises(CheckpointError, match=r"missing: dense\.weight; of another shape: decoder\.weight"):
        check_models(JobConfig.model_validate({"heads": [head]}))
    check_models(JobConfig.model_validate({"heads": [{**head, "of": "entities"}]}))  # it needs no words


@pytest.mark.parametrize("scaled", [False, True])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, scaled: bool) -> None:
    """Many blocks of rows and of places give the log-softmax of whole rows, and its best."""
    monkeypatch.setattr(vocabulary_heads, "_ROWS", 7)
    monkeypatch.setattr(vocabulary_heads, "_PLACES", 3)
    monkeypatch.setattr(vocabulary_heads, "_PRODUCTS", 200)
    random = np.random.default_rng(0)
    values = random.integers(-90, 90, (50, 8)) if scaled else random.normal(size=(50, 8)) * 3
    stored = torch.from_numpy(values.astype(np.int8 if scaled else np.float16))
    scales = torch.from_numpy(random.random(50).astype(np.float32) / 40) if scaled else None
    bias = torch.from_numpy(random.normal(size=50).astype(np.float32))
    states = torch.from_numpy(random.normal(size=(11, 8)).astype(np.float32))
    table = Table(stored, scales)
    wanted = (states @ table.rows(torch.arange(50)).T + bias).double().log_softmax(-1).numpy()
    candidates = random.integers(-1, 50, (11, 6)).astype(np.int32)
    found = vocabulary_heads.TableSoftmax(table, bias, "cpu")
    expected = np.where(candidates >= 0, np.take_along_axis(wanted, np.maximum(candidates, 0), 1), -np.inf)
    assert_close(found.scores(states, candidates), expected.astype(np.float32))
    never = np.array([3, 49], np.int32)
    wanted[:, never] = -np.inf
    order = np.argsort(-wanted, axis=1)
    best = found.best(states, 50, never)
    assert np.array_equal(best[:, :48, 0], order[:, :48])
    assert np.array_equal(best[:, 48:, 0], np.full((11, 2), -1))
    assert_close(best[..., 1], np.take_along_axis(wanted, order, 1).astype(np.float32))
