"""`engine: fast` beyond what every engine is tested for: any configuration, any shape, and its memory."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from luke_batch.errors import CheckpointError
from luke_batch.model.checkpoint import Checkpoint, resolve
from luke_batch.model.engine import Task
from luke_batch.model.fast_engine import FastEngine
from luke_batch.model.transformers_engine import TransformersEngine
from luke_batch.model.weights import ENTITY_TABLE
from luke_batch.model.windows import Window
from tests.checkpoints import HEADS, TOKENIZERS, Recipe, with_head
from tests.references import assert_close, reference

Folders = Callable[[Recipe], Path]

NEEDED = {Task.ENTITY: 1, Task.PAIR: 2}


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
        ids = random.integers(4, TOKENIZERS["luke"].vocab_size // 2, length)
        spans = np.stack([starts, ends], axis=1).astype(np.int32)
        windows.append(Window(ids.astype(np.int32), random.integers(0, 4, count).astype(np.int32), spans))
    return windows


@settings(max_examples=60)
@given(st.data(), st.sampled_from(list(Task)), recipes())
def test_equals_transformers(
    checkpoint_folder: Folders, data: st.DataObject, task: Task, recipe: Recipe
) -> None:
    """Whatever the model's proportions and the windows' shapes, batched together or not."""
    if task.head in HEADS:
        recipe = with_head(task.head, recipe)
    folder = checkpoint_folder(recipe)
    engine = FastEngine(resolve(str(folder)), [task], "cpu", data.draw(st.sampled_from([512, 4096])))
    model = getattr(transformers, recipe.architecture).from_pretrained(folder).eval()
    windows = data.draw(batches(task))
    for found, window in zip(engine.run(task, windows), windows, strict=True):
        if task in (Task.SPANS, Task.MENTIONS) and not len(window.entity_ids):
            assert len(found) == 0
        else:
            assert_close(found, reference(model, task, window))
