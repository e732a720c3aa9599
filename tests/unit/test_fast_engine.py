"""`engine: fast` beyond what every engine is tested for: any configuration, any shape, and its memory."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import CheckpointError
from luke_batch.config import Precision
from luke_batch.model.engine import encoder
from luke_batch.model.engine.device import ON_CPU, default_budget, row_bytes
from luke_batch.model.engine.fast_engine import FastEngine
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.weights import ENTITY_TABLE
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Task
from tests.checkpoints import HEADS, TOKENIZERS, Recipe, with_head
from tests.references import ENTITY_TASKS, FORWARD_TASKS, assert_close, gaps, reference

Folders = Callable[[Recipe], Path]

VOCABULARY = TOKENIZERS["luke"].vocab_size
NEEDED = {Task.TYPES: 1, Task.RELATIONS: 2}


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Tiny LUKE and mLUKE models of any proportions."""
    heads, size = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([4, 8, 12]))
    return Recipe(
        kind=draw(st.sampled_from(["luke", "mluke"])),
        entity_aware=draw(st.booleans()),
        entity_emb_size=draw(st.sampled_from([5, 16, heads * size])),
        hidden=heads * size,
        layers=draw(st.sampled_from([1, 2, 4])),
        heads=heads,
        seed=draw(st.integers(0, 3)),
    )


@st.composite
def batches(draw: st.DrawFn, task: Task) -> list[Window]:
    """Windows of which several have the same shape; short and long ones, with 0 to 200 entities."""
    shapes = st.tuples(st.sampled_from([3, 4, 20, 21, 130, 512]), st.sampled_from([0, 1, 3, 40, 200]))
    drawn = draw(st.lists(shapes, min_size=1, max_size=3)) * draw(st.integers(1, 2))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    windows: list[Window] = []
    for length, entities in drawn:
        count = NEEDED.get(task, entities)
        starts = random.integers(0, length, count)
        ends = starts + random.integers(1, np.minimum(length - starts, 40) + 1)
        ids = random.integers(4, VOCABULARY // 2, length)
        spans = np.stack([starts, ends], axis=1).astype(np.int32)
        ids, entity_ids = ids.astype(np.int32), random.integers(0, 4, count).astype(np.int32)
        candidates = random.integers(-1, 8, (count, 30)).astype(np.int32) if task == Task.LINKS else None
        asked = gaps(random, length, count, (VOCABULARY // 2, 9)) if task == Task.CLOZE else None
        windows.append(Window(ids, entity_ids, spans, candidates, asked))
    return windows


def sequences(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_bounds: Tensor,
    key_bounds: Tensor,
    longest_query: int,
    longest_key: int,
    scale: float,
) -> Tensor:
    """What `varlen_attn` computes on GPUs, one sequence after another."""
    assert query_bounds.dtype == key_bounds.dtype == torch.int32
    assert max(int(query_bounds.diff().max()), int(key_bounds.diff().max())) <= min(longest_query, longest_key)
    assert (len(query), len(key)) == (int(query_bounds[-1]), int(key_bounds[-1]))
    lengths = (query_bounds.diff().tolist(), key_bounds.diff().tolist())
    parts = zip(query.split(lengths[0]), key.split(lengths[1]), value.split(lengths[1]), strict=True)
    found: list[Tensor] = []
    for own in parts:
        queries, keys, values = (part.transpose(0, 1) for part in own)
        found.append(functional.scaled_dot_product_attention(queries, keys, values, scale=scale))
    return torch.cat([part.transpose(0, 1) for part in found])


@settings(max_examples=80)
@given(st.data(), st.sampled_from(FORWARD_TASKS), recipes(), st.sampled_from([None, sequences]))
def test_equals_transformers(
    checkpoint_folder: Folders,
    data: st.DataObject,
    task: Task,
    recipe: Recipe,
    kernel: Callable[..., Tensor] | None,
) -> None:
    """Whatever the model's proportions and the windows' shapes, batched together or not, with the attention
    of CPUs and that of GPUs.
    """
    if task.head in HEADS:
        recipe = with_head(task.head, recipe)
    folder = checkpoint_folder(recipe)
    with patch.object(encoder, "kernel_for", return_value=kernel):
        engine = FastEngine(resolve(str(folder)), [task], "cpu", data.draw(st.sampled_from([512, 4096])))
    model = getattr(transformers, recipe.architecture).from_pretrained(folder).eval()
    windows = data.draw(batches(task))
    for found, window in zip(engine.run(task, windows), windows, strict=True):
        if task in ENTITY_TASKS and not len(window.entity_ids):
            assert len(found) == 0
        else:
            assert_close(found, reference(model, task, window))


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05), ("float16", 0.005)])
def test_keys_of_few_entities_go_through_the_map_of_queries(
    checkpoint_folder: Folders, monkeypatch: pytest.MonkeyPatch, precision: Precision, tolerance: float
) -> None:
    """The vectors are those that queries of words give, in windows of any length."""
    checkpoint = resolve(str(checkpoint_folder(Recipe())))
    random = np.random.default_rng(0)
    windows = [
        Window(
            random.integers(4, VOCABULARY // 2, words).astype(np.int32),
            np.arange(entities, dtype=np.int32) % 4,
            np.array([[start, start + 2] for start in range(entities)], np.int32).reshape(-1, 2),
        )
        for words, entities in ((9, 1), (9, 1), (30, 4), (12, 0), (200, 3))
    ]
    found: list[FloatArray] = []
    for few in (-1, encoder.FEW_ENTITIES):
        monkeypatch.setattr(encoder, "FEW_ENTITIES", few)
        mapped = encoder.MappedKeys
        with patch.object(mapped, "scores", autospec=True, side_effect=mapped.scores) as scores:
            engine = FastEngine(checkpoint, [Task.TEXT], "cpu", 512, precision)
            found.append(np.concatenate(engine.run(Task.TEXT, windows)))
        assert scores.called == (few > 0)
    assert np.abs(found[0] - found[1]).max() <= tolerance


@pytest.fixture
def rewritten(checkpoint_folder: Folders, tmp_path: Path) -> Callable[[dict[str, object]], Path]:
    """A function that copies a checkpoint with other settings in its config.json."""

    def rewrite(settings: dict[str, object]) -> Path:
        folder = shutil.copytree(checkpoint_folder(Recipe()), tmp_path / "model")
        config = json.loads((folder / "config.json").read_text()) | settings
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return rewrite


def test_another_activation_is_refused(rewritten: Callable[[dict[str, object]], Path]) -> None:
    """What the engine would compute wrongly it does not compute, and the message names the cure."""
    checkpoint = resolve(str(rewritten({"hidden_act": "relu"})))
    with pytest.raises(CheckpointError, match=r"hidden_act is 'relu'.*set `engine: transformers`"):
        FastEngine(checkpoint, [Task.TEXT], "cpu", 512)


def test_a_batch_fills_the_memory_of_a_gpu(checkpoint_folder: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what is free, within bounds; a CPU's cache is what counts there."""
    checkpoint = resolve(str(checkpoint_folder(Recipe())))
    room = row_bytes(checkpoint)
    for free, budget in ((2 * 5000 * room, 5000), (10, ON_CPU), (2**50, 65_536)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free, 2 * free))
        assert default_budget(checkpoint, "cuda") == budget
    assert default_budget(checkpoint, "cpu") == ON_CPU


def memory_of_this_process() -> tuple[int, int]:
    """Bytes of its own and of mapped files, both resident."""
    status = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in status if line.startswith(("RssAnon", "RssFile")))
    anonymous, mapped = (int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))
    return anonymous, mapped


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells no resident memory")
def test_an_entity_table_is_read_where_it_is_looked_up(
    rewritten: Callable[[dict[str, object]], Path],
) -> None:
    """Of a large table neither loading nor mentions take memory; its last row is there when it is asked."""
    rows = 2_000_000
    folder = rewritten({"entity_vocab_size": rows})
    state = load_file(folder / "model.safetensors")
    table = torch.zeros(rows, 16)
    table[:4], table[-1] = state[ENTITY_TABLE][:4], torch.arange(16) / 10
    save_file(state | {ENTITY_TABLE: table}, folder / "model.safetensors", metadata={"format": "pt"})
    size = table.numel() * 4
    del table, state
    checkpoint = resolve(str(folder))
    inputs = [
        Window(np.arange(4, 13, dtype=np.int32), np.array(ids, np.int32), np.array([[1, 3]], np.int32))
        for ids in ([2], [rows - 1])
    ]
    before = memory_of_this_process()
    engine = FastEngine(checkpoint, [Task.MENTIONS], "cpu", 512)
    found = engine.run(Task.MENTIONS, inputs)
    growth = [now - then for now, then in zip(memory_of_this_process(), before, strict=True)]
    assert max(growth) < size / 4
    model = transformers.LukeModel.from_pretrained(folder).eval()
    for vector, window in zip(found, inputs, strict=True):
        assert_close(vector, reference(model, Task.MENTIONS, window))
    assert np.abs(found[0] - found[1]).max() > 0.1
