"""Each engine gives what transformers' own classes give for one window at a time."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, get_args

import numpy as np
import pytest
import torch
import transformers

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import CheckpointError, DeviceError, ResourceError
from luke_batch.config import ModelConfig, Precision
from luke_batch.model.engine.batched_engine import BatchedEngine
from luke_batch.model.engine.device import pick_device
from luke_batch.model.engine.engine import load_engine
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.weights import encoder_state
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Reads, Task
from tests.checkpoints import (
    HEADS,
    HIDDEN,
    LABELS,
    TOKENIZERS,
    Recipe,
    add_head,
    add_span_scorer,
    damage_token,
    make_multi_head,
    multi_head_weights,
    with_head,
)
from tests.references import ENTITY_TASKS, FORWARD_TASKS, assert_close, gaps, reference

Folders = Callable[[Recipe], Path]

VARIANTS = {
    "luke": Recipe(),
    "luke-v5-layout": Recipe(layout="v5"),
    "luke-lite-same-size": Recipe(lite=True, entity_emb_size=HIDDEN),
    "mluke": Recipe(kind="mluke", entity_aware=False),
    "mluke-aware": Recipe(kind="mluke", entity_emb_size=HIDDEN),
}
SHARED = (Task.NER, Task.TYPES, Task.RELATIONS)
"""Those of the heads of `multi_head_folder`."""
SIZES = {
    kind: (tokenizer.vocab_size, 1 + max(tokenizer.entity_vocab.values())) for kind, tokenizer in TOKENIZERS.items()
}
"""Words and entities of the checkpoints of each kind."""
TASKS = tuple(task for task in FORWARD_TASKS if task.head in HEADS)


def windows(task: Task, kind: str = "luke", seed: int = 0) -> list[Window]:
    """Random inputs of many lengths: no entities where the task allows it, mentions beyond 30 tokens."""
    random = np.random.default_rng(seed)
    fixed = {Reads.ENTITY: 1, Reads.PAIR: 2}.get(task.reads)
    made: list[Window] = []
    for length in (5, 70, 3, 200, 41, 12, 66, 9):
        count = int(random.integers(0, 9)) if fixed is None else fixed
        if length == 3:
            count = fixed or 0
        starts = random.integers(1, length - 1, count)
        ends = np.minimum(starts + random.integers(1, 60, count), length - 1)
        ids = np.concatenate([[0], random.integers(4, TOKENIZERS[kind].vocab_size, length - 2), [2]])
        spans = np.stack([starts, ends], 1).astype(np.int32)
        entities = random.integers(0, 4, count).astype(np.int32)
        candidates = random.integers(-1, 8, (count, 5)).astype(np.int32) if task == Task.LINKS else None
        asked = gaps(random, length, count, SIZES[kind]) if task == Task.CLOZE else None
        made.append(Window(ids.astype(np.int32), entities, spans, candidates, asked))
    return made


class Load(Protocol):
    """Loads the engine under test on the CPU."""

    def __call__(
        self, folder: Path, *tasks: Task, max_tokens: int = 512, precision: Precision = "float32"
    ) -> BatchedEngine:
        """The checkpoint in `folder`, for `tasks`."""
        ...


@pytest.fixture(params=get_args(ModelConfig.model_fields["engine"].annotation))
def engine(request: pytest.FixtureRequest) -> Load:
    """Every engine that `models.*.engine` accepts."""

    def load(folder: Path, *tasks: Task, max_tokens: int = 512, precision: Precision = "float32") -> BatchedEngine:
        config = ModelConfig(engine=request.param, max_tokens=max_tokens, precision=precision)
        loaded = load_engine(config, resolve(str(folder)), tasks, "cpu")
        assert isinstance(loaded, BatchedEngine)
        return loaded

    return load


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", TASKS)
def test_heads_equal_transformers(engine: Load, checkpoint_folder: Folders, task: Task, variant: str) -> None:
    """Logits of each head are those of transformers' own class on the same checkpoint and inputs."""
    recipe = with_head(task.head, VARIANTS[variant])
    if task in (Task.LINKS, Task.CLOZE) and recipe.lite:
        pytest.skip("a lite checkpoint has no titles")
    folder = checkpoint_folder(recipe)
    model = getattr(transformers, recipe.architecture).from_pretrained(folder).eval()
    inputs = windows(task, recipe.kind)
    found = engine(folder, task).run(task, inputs)
    for logits, window in zip(found, inputs, strict=True):
        if task not in ENTITY_TASKS or len(window.entity_ids):
            assert_close(logits, reference(model, task, window))
        else:
            assert logits.shape == (0, 5 if task == Task.LINKS else len(recipe.labels))
    several = np.concatenate([logits.ravel() for logits in found])
    assert several[np.isfinite(several)].std() > 0.01  # the comparison means something


@pytest.mark.parametrize("variant", VARIANTS)
def test_states_equal_transformers(engine: Load, checkpoint_folder: Folders, variant: str) -> None:
    """Mention and text states are LukeModel's, also from a window without entities."""
    recipe = VARIANTS[variant]
    folder = checkpoint_folder(recipe)
    model = transformers.LukeModel.from_pretrained(folder).eval()
    both = engine(folder, Task.MENTIONS, Task.TEXT)
    inputs = windows(Task.TEXT, recipe.kind)
    text, mentions = both.run(Task.TEXT, inputs), both.run(Task.MENTIONS, inputs)
    for words, entities, window in zip(text, mentions, inputs, strict=True):
        assert_close(words, reference(model, Task.TEXT, window))
        if len(window.entity_ids):
            assert_close(entities, reference(model, Task.MENTIONS, window))
        else:
            assert entities.shape == (0, HIDDEN)


def test_every_checkpoint_embeds(engine: Load, checkpoint_folder: Folders) -> None:
    """A checkpoint with a head gives the states of its encoder."""
    folder = checkpoint_folder(with_head("ner", Recipe()))
    model = transformers.LukeForEntitySpanClassification.from_pretrained(folder).luke.eval()
    inputs = windows(Task.MENTIONS)
    for found, window in zip(engine(folder, Task.TEXT).run(Task.TEXT, inputs), inputs, strict=True):
        assert_close(found, reference(model, Task.TEXT, window))


@pytest.mark.parametrize("task", SHARED)
def test_multi_head_folder_equals_one_class_a_head(engine: Load, multi_head_folder: Path, task: Task) -> None:
    """Heads that share an encoder give what transformers' class gives with the dequantised weights."""
    shared = engine(multi_head_folder, *SHARED, Task.MENTIONS, Task.TEXT)
    head = task.head
    config = transformers.LukeConfig.from_pretrained(multi_head_folder, num_labels=len(LABELS[head]))
    model = getattr(transformers, HEADS[head])(config).eval()
    model.luke.load_state_dict(encoder_state(resolve(str(multi_head_folder))), strict=False)
    weights = multi_head_weights(0)
    model.classifier.load_state_dict(
        {name.partition(".")[2]: value for name, value in weights.items() if name.startswith(head)}
    )
    inputs = windows(task)
    for found, window in zip(shared.run(task, inputs), inputs, strict=True):
        if len(window.entity_ids):
            assert_close(found, reference(model, task, window))


@pytest.mark.parametrize("known", SHARED)
def test_a_head_of_another_package_is_run_by_the_states_that_it_reads(
    engine: Load, tmp_path: Path, known: Task
) -> None:
    """A task with a name that we do not know has its weights under that name."""
    toy, weights = Task(known.reads, "toy"), multi_head_weights(0)
    bias = weights.get(f"{known.head}.bias", torch.zeros(2))[:2]
    folder = make_multi_head(tmp_path / "model")
    add_head(folder, "toy", -weights[f"{known.head}.weight"][:2], 1 - bias)
    both = engine(folder, toy, known)
    inputs = windows(toy)
    for found, other in zip(both.run(toy, inputs), both.run(known, inputs), strict=True):
        assert_close(found, 1 - other[..., :2])


@pytest.mark.parametrize("task", [*SHARED, Task.MENTIONS, Task.TEXT, Task.BOUNDS])
def test_output_that_is_no_number_is_an_error(engine: Load, tmp_path: Path, task: Task) -> None:
    """Of a window that reads damaged weights, also in a batch with others; these get theirs without it."""
    folder = add_span_scorer(make_multi_head(tmp_path / "model"), 0.5)
    sound = engine(folder, *SHARED, Task.BOUNDS).run(task, windows(task))
    damaged = next(token for token in windows(task)[1].token_ids.tolist() if token > 2)
    loaded = engine(damage_token(folder, damaged), *SHARED, Task.BOUNDS)
    inputs = windows(task)
    with pytest.raises(FloatingPointError, match=rf"task {task} is not a number .*check the checkpoint"):
        loaded.run(task, inputs)
    good = [place for place, window in enumerate(inputs) if damaged not in window.token_ids]
    assert good
    assert 1 not in good
    for found, place in zip(loaded.run(task, [inputs[place] for place in good]), good, strict=True):
        assert_close(found, sound[place])


def test_infinity_is_no_output_either(engine: Load, multi_head_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """+inf fails like NaN; -inf, which padded candidates have, does not."""
    loaded = engine(multi_head_folder, Task.TYPES)
    outputs = np.zeros((8, 3), np.float32)
    monkeypatch.setattr(loaded, "_forward", lambda _, part: list(outputs[: len(part)]))
    outputs[:, 1] = -np.inf
    assert len(loaded.run(Task.TYPES, windows(Task.TYPES))) == 8
    outputs[0, 1] = np.inf
    with pytest.raises(FloatingPointError, match="infinity"):
        loaded.run(Task.TYPES, windows(Task.TYPES))


@pytest.mark.parametrize("task", FORWARD_TASKS)
def test_order_and_company_do_not_matter(engine: Load, checkpoint_folder: Folders, task: Task) -> None:
    """Each window gets the same output in another order, in other batches and alone."""
    inputs = windows(task)
    folder = checkpoint_folder(with_head(task.head, Recipe()) if task.head in HEADS else Recipe())
    loaded = engine(folder, task)
    wanted = loaded.run(task, inputs)
    backwards = engine(folder, task, max_tokens=4096).run(task, inputs[::-1])[::-1]
    for found, window, expected in zip(backwards, inputs, wanted, strict=True):
        assert_close(found, expected)
        assert_close(loaded.run(task, [window])[0], expected)


def test_no_windows_no_outputs(engine: Load, multi_head_folder: Path) -> None:
    """An empty list is no special case for the caller."""
    assert engine(multi_head_folder, Task.NER).run(Task.NER, []) == []


def test_a_task_without_its_head_is_refused(engine: Load, checkpoint_folder: Folders) -> None:
    """The message names the head that is missing and those that exist."""
    folder = checkpoint_folder(with_head("types", Recipe()))
    with pytest.raises(CheckpointError, match=r"no ner head .*LukeForEntityClassification.* embeddings, types"):
        engine(folder, Task.NER)


def test_a_task_that_was_not_loaded_is_an_error(engine: Load, multi_head_folder: Path) -> None:
    """An engine loaded for one head does not quietly run another."""
    with pytest.raises(ValueError, match="not loaded for the task types"):
        engine(multi_head_folder, Task.NER).run(Task.TYPES, windows(Task.TYPES))


@pytest.mark.parametrize(("token", "entity", "kind"), [(9999, 0, "token"), (5, 9999, "entity"), (-1, 0, "token")])
def test_ids_outside_of_the_tables_are_refused(
    engine: Load, multi_head_folder: Path, token: int, entity: int, kind: str
) -> None:
    """On a GPU such an id would end the process: it is refused before the forward pass."""
    window = Window(np.array([0, token, 2], np.int32), np.array([entity], np.int32), np.array([[1, 2]], np.int32))
    with pytest.raises(CheckpointError, match=f"gives the {kind} id"):
        engine(multi_head_folder, Task.TEXT).run(Task.TEXT, [window])


def test_a_window_beyond_the_model_is_an_error(engine: Load, multi_head_folder: Path) -> None:
    """513 tokens have no position; a full window of 512 has."""
    loaded = engine(multi_head_folder, Task.TEXT)
    none = np.zeros(0, np.int32), np.zeros((0, 2), np.int32)
    assert loaded.run(Task.TEXT, [Window(np.full(512, 7, np.int32), *none)])[0].shape == (512, HIDDEN)
    with pytest.raises(ValueError, match="513 tokens"):
        loaded.run(Task.TEXT, [Window(np.full(513, 7, np.int32), *none)])


def test_out_of_memory_is_survived(engine: Load, multi_head_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one window fits in memory, outputs are those of whole batches; where none fits, it raises."""
    loaded = engine(multi_head_folder, Task.NER, max_tokens=4096)
    inputs = windows(Task.NER)
    wanted = loaded.run(Task.NER, inputs)
    forward, limit = loaded._forward, 1

    def small(task: Task, part: Sequence[Window]) -> list[FloatArray]:
        if len(part) > limit:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return forward(task, part)

    monkeypatch.setattr(loaded, "_forward", small)
    for found, expected in zip(loaded.run(Task.NER, inputs), wanted, strict=True):
        assert_close(found, expected)
    limit = 0
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        loaded.run(Task.NER, inputs)


def test_a_lost_gpu_is_no_error_of_a_batch(
    engine: Load, multi_head_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that CUDA repeats whatever it is asked ends the process; one that passes is the batch's."""
    loaded = engine(multi_head_folder, Task.NER)

    def failing(*_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered\nand much advice")

    monkeypatch.setattr(loaded, "_forward", failing)
    monkeypatch.setattr(loaded, "_device", "cuda")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    with pytest.raises(RuntimeError, match="device-side assert"):
        loaded.run(Task.NER, windows(Task.NER))
    monkeypatch.setattr(torch.cuda, "synchronize", failing)
    with pytest.raises(DeviceError, match=r"no longer answers: CUDA error: device-side assert triggered$"):
        loaded.run(Task.NER, windows(Task.NER))


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` follows Ray's assignment; a GPU that CUDA does not see is refused with the cure."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto", gpu_assigned=False) == "cpu"
    assert pick_device("cpu", gpu_assigned=True) == "cpu"
    with pytest.raises(ResourceError, match=r"Ray assigned a GPU.*set `device: cpu`"):
        pick_device("auto", gpu_assigned=True)
    with pytest.raises(ResourceError, match="`device: cuda` is set"):
        pick_device("cuda", gpu_assigned=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto", gpu_assigned=True) == "cuda"


@pytest.mark.parametrize("task", TASKS)
def test_bfloat16_agrees_with_float32_and_comes_out_as_float32(
    engine: Load, task: Task, checkpoint_folder: Folders
) -> None:
    """Half precision changes the logits by a few tenths of their size at most, and not their type."""
    folder = checkpoint_folder(with_head(task.head, Recipe()))
    exact = engine(folder, task).run(task, windows(task))
    half = engine(folder, task, precision="bfloat16").run(task, windows(task))
    for one, other in zip(exact, half, strict=True):
        assert other.dtype == np.float32
        if one.ndim == 3:
            one, other = one[..., 1], other[..., 1]  # ids are no quantities
        one, other = one[np.isfinite(one)], other[np.isfinite(one)]
        assert np.abs(one - other).max(initial=0) <= 0.25 * max(1, np.sqrt(np.mean(one**2)) if one.size else 0)
    assert any(not np.array_equal(one, other) for one, other in zip(exact, half, strict=True))
