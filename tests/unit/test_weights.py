"""Weights: what of a file is read, what is ignored, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.weights import ENTITY_TABLE, WORD_TABLE, encoder_state, encoder_tables, head_state
from tests.checkpoints import TOKENIZERS, Recipe, multi_head_weights, with_head

Folders = Callable[[Recipe], Path]
State = dict[str, torch.Tensor]
MLUKE = Recipe(kind="mluke", entity_aware=False)
QUERY = "encoder.layer.0.attention.self"


@pytest.fixture
def rewritten(checkpoint_folder: Folders, tmp_path: Path) -> Callable[[Recipe, Callable[[State], State]], Path]:
    """A function that copies a recipe's checkpoint with other weights."""

    def rewrite(recipe: Recipe, change: Callable[[State], State]) -> Path:
        folder = shutil.copytree(checkpoint_folder(recipe), tmp_path / "model")
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})
        return folder

    return rewrite


Rewrite = Callable[[Recipe, Callable[[State], State]], Path]


def state_of(folder: Path) -> State:
    """The encoder's weights."""
    return encoder_state(resolve(str(folder)))


def test_names_with_and_without_the_prefix(checkpoint_folder: Folders) -> None:
    """LukeModel's own file and that of a class with a head give the same names."""
    plain = state_of(checkpoint_folder(Recipe()))
    assert plain.keys() == state_of(checkpoint_folder(with_head("ner", Recipe()))).keys()
    assert not any(name.startswith(("luke.", "pooler.", "classifier.")) for name in plain)


def test_a_masked_language_model_embeds(checkpoint_folder: Folders) -> None:
    """The word and entity heads of a pretrained checkpoint are not the encoder's business."""
    folder = checkpoint_folder(Recipe(architecture="LukeForMaskedLM"))
    assert state_of(folder).keys() == state_of(checkpoint_folder(Recipe())).keys()


def test_what_may_be_there_or_not(rewritten: Rewrite) -> None:
    """Position buffers of early files are ignored, and the pooler may be missing."""

    def change(state: State) -> State:
        kept = {name: tensor for name, tensor in state.items() if not name.startswith("pooler.")}
        return kept | {"embeddings.position_ids": torch.arange(514)[None]}

    assert "embeddings.position_ids" not in state_of(rewritten(Recipe(), change))


def test_mluke_s_spare_queries_are_ignored(rewritten: Rewrite) -> None:
    """Files of mLUKE carry entity-aware queries although the attention is plain: these alone are ignored."""

    def change(state: State) -> State:
        spare = {
            f"{QUERY}.{kind}_query.{part}": torch.zeros((32, 32) if part == "weight" else 32)
            for kind in ("w2e", "e2w", "e2e")
            for part in ("weight", "bias")
        }
        return state | spare

    assert f"{QUERY}.w2e_query.weight" not in state_of(rewritten(MLUKE, change))


def test_other_spare_parameters_are_refused(rewritten: Rewrite) -> None:
    """A parameter that nothing explains means that something was misunderstood."""
    folder = rewritten(MLUKE, lambda state: state | {f"{QUERY}.e3e_query.bias": torch.zeros(32)})
    with pytest.raises(CheckpointError, match=rf"unexpected: {QUERY}.e3e_query.bias; download"):
        state_of(folder)


def test_missing_queries_are_refused(rewritten: Rewrite) -> None:
    """With entity-aware attention on, its queries are needed; a long list is cut."""

    def change(state: State) -> State:
        return {name: tensor for name, tensor in state.items() if "2e_query" not in name}

    with pytest.raises(CheckpointError, match=rf"missing: {QUERY}.w2e_query.weight, .* and 2 more; download"):
        state_of(rewritten(Recipe(), change))


def test_another_shape_is_refused(rewritten: Rewrite) -> None:
    """A table of another length than config.json says is named with both shapes."""
    name = "embeddings.word_embeddings.weight"
    folder = rewritten(Recipe(), lambda state: state | {name: state[name][:-2].clone()})
    rows = TOKENIZERS["luke"].vocab_size
    with pytest.raises(CheckpointError, match=rf"{name} is \({rows - 2}, 32\) instead of \({rows}, 32\)"):
        state_of(folder)


def test_half_precision_becomes_float32(rewritten: Rewrite, checkpoint_folder: Folders) -> None:
    """Files in float16 or bfloat16 give float32 with the stored values."""
    folder = rewritten(Recipe(), lambda state: {name: tensor.bfloat16() for name, tensor in state.items()})
    exact = state_of(checkpoint_folder(Recipe()))
    for name, tensor in state_of(folder).items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, exact[name].bfloat16().float(), rtol=0, atol=0)


def test_quantised_words(multi_head_folder: Path, checkpoint_folder: Folders) -> None:
    """int8 rows times their scales are the words again, within half a step of each row."""
    exact = state_of(checkpoint_folder(Recipe(lite=True, entity_emb_size=32)))
    found = state_of(multi_head_folder)
    name = "embeddings.word_embeddings.weight"
    step = exact[name].abs().amax(1, keepdim=True) / 127
    assert ((found[name] - exact[name]).abs() <= 0.51 * step).all()
    torch.testing.assert_close(found[f"{QUERY}.key.weight"], exact[f"{QUERY}.key.weight"].half().float())


def test_int8_without_scales_is_refused(rewritten: Rewrite) -> None:
    """Bytes without their scales are no weights."""
    name = "embeddings.word_embeddings.weight"
    folder = rewritten(Recipe(), lambda state: state | {name: state[name].to(torch.int8)})
    with pytest.raises(CheckpointError, match=f"{name} is int8 without the row scales {name}.scale"):
        state_of(folder)


@pytest.mark.parametrize("head", ["ner", "types", "relations"])
def test_head_weights_of_our_own_format(multi_head_folder: Path, head: str) -> None:
    """Each head's weight and bias come from heads.safetensors; relations have no bias."""
    weight, bias = head_state(resolve(str(multi_head_folder)), head)
    wanted = multi_head_weights(0)
    assert torch.equal(weight, wanted[f"{head}.weight"])
    assert (bias is None) == (head == "relations")
    assert bias is None or torch.equal(bias, wanted[f"{head}.bias"])


def test_a_missing_bias_is_refused(rewritten: Rewrite) -> None:
    """A span head without its bias is incomplete."""

    def change(state: State) -> State:
        return {name: tensor for name, tensor in state.items() if name != "classifier.bias"}

    folder = rewritten(with_head("ner", Recipe()), change)
    with pytest.raises(CheckpointError, match=r"missing: classifier\.bias"):
        head_state(resolve(str(folder)), "ner")


def test_tables_are_looked_up_as_they_are_stored(multi_head_folder: Path) -> None:
    """A row of a table is that of the whole converted tensor, and int8 stays int8 until it is looked up."""
    checkpoint = resolve(str(multi_head_folder))
    state = encoder_state(checkpoint)
    ids = torch.tensor([3, 0, 3, 1])
    words, entities = encoder_tables(checkpoint)
    assert (words.stored.dtype, entities.stored.dtype) == (torch.int8, torch.float16)
    assert torch.equal(words.rows(ids), state[WORD_TABLE][ids])
    assert torch.equal(entities.rows(ids), state[ENTITY_TABLE][ids])
