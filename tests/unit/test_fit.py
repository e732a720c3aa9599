"""What makes a checkpoint useless is found before any work: by the driver, from headers and vocabularies."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from luke_batch.annotate.annotator import check_models
from luke_batch.base.errors import CheckpointError
from luke_batch.config import JobConfig
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.fit import check_fit
from luke_batch.model.files.weights import head_state
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.task import Reads, Task
from tests.checkpoints import HIDDEN, LITE_ENTITIES, Recipe, with_head

Folders = Callable[[Recipe], Path]
Change = Callable[[Path], object]
NER, TYPES = with_head("ner", Recipe()), with_head("types", Recipe())
RELATIONS = with_head("relations", Recipe(lite=True))
MLUKE = with_head("ner", Recipe(kind="mluke"))
V5 = with_head("ner", Recipe(layout="v5"))


def job(folder: Path, head: str) -> JobConfig:
    """A job of one head."""
    return JobConfig.model_validate(
        {"models": {"main": {"path": str(folder)}}, "heads": [{"head": head, "spans": "auto"}]}
    )


def without(*names: str) -> Change:
    """A change that takes tensors away."""

    def change(folder: Path) -> None:
        file = folder / "model.safetensors"
        state = load_file(file)
        for name in names:
            del state[name]
        save_file(state, file, metadata={"format": "pt"})

    return change


def written(name: str, content: str) -> Change:
    """A change that replaces a file."""
    return lambda folder: (folder / name).write_text(content)


def fewer_rows(setting: str, tensor: str, rows: int) -> Change:
    """A change that shortens an embedding and says so in config.json."""

    def change(folder: Path) -> None:
        file = folder / "model.safetensors"
        state = load_file(file)
        save_file(
            {**state, tensor: state[tensor][: state[tensor].shape[0] + rows].clone()},
            file,
            metadata={"format": "pt"},
        )
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, setting: config[setting] + rows}))

    return change


def told(**values: object) -> Change:
    """A change of keys of config.json."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))

    return change


def section(**values: object) -> Change:
    """A change that says so in the section of config.json which fine-tuning writes."""
    return told(luke_batch={"format": 1, **values})


WORDS = ("vocab_size", "luke.embeddings.word_embeddings.weight")
ENTITIES = ("entity_vocab_size", "luke.entity_embeddings.entity_embeddings.weight")
NO_MASK2 = {name: number for name, number in LITE_ENTITIES.items() if name != "[MASK2]"}

REFUSALS: dict[str, tuple[Recipe, Change, str]] = {
    "a layer's weight": (
        NER,
        without("luke.encoder.layer.1.output.dense.weight"),
        r"missing: encoder\.layer",
    ),
    "entity embeddings": (NER, without(ENTITIES[1]), r"missing: entity_embeddings\.entity_embeddings"),
    "the bias of a head": (NER, without("classifier.bias"), r"missing: classifier\.bias"),
    "merges": (NER, written("merges.txt", "#version\na b c\n"), "merges.txt: does not fit vocab.json"),
    "sentencepiece": (MLUKE, written("sentencepiece.bpe.model", "x"), "not a sentencepiece model"),
    "tokenizer.json": (V5, written("tokenizer.json", "{"), "tokenizer.json: not readable as JSON"),
    "added tokens": (
        NER,
        written("added_tokens.json", '{"<ent>": "x"}'),
        "added_tokens.json: not {token: id}",
    ),
    "no entities": (NER, written("entity_vocab.json", "{}"), r"entity vocabulary has no \[MASK\]"),
    "no second mask": (
        RELATIONS,
        written("entity_vocab.json", json.dumps(NO_MASK2)),
        r"no \[MASK2\], which relations need",
    ),
    "a second mask too far": (
        RELATIONS,
        written("entity_vocab.json", json.dumps({**LITE_ENTITIES, "[MASK2]": 9})),
        r"gives \[MASK2\] the id 9, but the weights have 4 rows",
    ),
    "a mask too far": (
        NER,
        written("entity_vocab.json", json.dumps({**LITE_ENTITIES, "[MASK]": 10**6})),
        r"gives \[MASK\] the id 1000000, .* \(entity_vocab_size\)",
    ),
    "tokens too far": (NER, fewer_rows(*WORDS, rows=-5), r"its largest token the id .* \(vocab_size\)"),
    "a marker too far": (TYPES, fewer_rows(*WORDS, rows=-2), "gives <ent> the id"),
    "a second marker too far": (RELATIONS, fewer_rows(*WORDS, rows=-1), "gives <ent2> the id"),
    "too few offsets": (
        TYPES,
        section(offsets=[0.5, 0.5]),
        r"luke_batch\.offsets: .*2 offsets for 3 labels in config\.json; mend it",
    ),
    "offsets in words": (TYPES, section(offsets=["0.5"] * 3), r"luke_batch\.offsets\.0: .*number.* in config\.json"),
    "offsets without a list": (TYPES, section(offsets=0.5), r"luke_batch\.offsets: .* in config\.json"),
    "an endless offset": (TYPES, section(offsets=[float("inf")] * 3), r"luke_batch\.offsets\.0: .*finite"),
    "a temperature of true": (TYPES, section(temperature=True), r"luke_batch\.temperature: .* in config\.json"),
    "longest span of true": (NER, section(max_words=True), r"luke_batch\.max_words: .* in config\.json"),
    "an unknown context": (NER, section(context="page"), r"luke_batch\.context: .* in config\.json"),
    "no attention heads": (NER, told(num_attention_heads=0), r"config\.json has no usable num_attention_heads \(0\)"),
    "7 attention heads": (
        NER,
        told(num_attention_heads=7),
        "num_attention_heads 7, which do not divide hidden_size 32",
    ),
    "layers of true": (NER, told(num_hidden_layers=True), r"no usable num_hidden_layers \(True\)"),
    "no layers": (NER, told(num_hidden_layers=0), r"no usable num_hidden_layers \(0\)"),
    "an epsilon in words": (
        NER,
        told(layer_norm_eps="1e-12"),
        r"config\.json has no usable layer_norm_eps \('1e-12'\)",
    ),
    "an epsilon of none": (NER, told(layer_norm_eps=None), r"no usable layer_norm_eps \(None\)"),
    "an epsilon of 0": (NER, told(layer_norm_eps=0), r"no usable layer_norm_eps \(0\)"),
    "a padding beyond the table": (
        NER,
        told(pad_token_id=514),
        "514 max_position_embeddings, too few .*pad_token_id 514",
    ),
    "a padding before the table": (NER, told(pad_token_id=-1), r"no usable pad_token_id \(-1\)"),
    "a padding in words": (NER, told(pad_token_id="1"), r"no usable pad_token_id \('1'\)"),
    "too few positions": (NER, told(max_position_embeddings=5), "5 max_position_embeddings, too few for a window"),
    "attention in words": (NER, told(use_entity_aware_attention="no"), "use_entity_aware_attention 'no', neither true"),
    "another activation": (
        NER,
        told(hidden_act="relu"),
        "hidden_act 'relu', but `engine: fast` computes gelu only; set `engine: transformers`",
    ),
    "mentions of true": (
        NER,
        written("tokenizer_config.json", '{"max_mention_length": true}'),
        r"tokenizer_config\.json has no usable max_mention_length \(True\)",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_useless_checkpoint_is_refused(case: str, checkpoint_folder: Folders, tmp_path: Path) -> None:
    """One line that names the checkpoint and the cause; the same folder unspoiled passes."""
    recipe, change, match = REFUSALS[case]
    whole = checkpoint_folder(recipe)
    head = {NER: "ner", MLUKE: "ner", V5: "ner", TYPES: "types", RELATIONS: "relations"}[recipe]
    check_models(job(whole, head))
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    change(folder)
    with pytest.raises(CheckpointError, match=match) as caught:
        check_models(job(folder, head))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(("activation", "known"), [("relu", True), ("no-such", False), (3, False)])
def test_activations_of_transformers(
    activation: object, known: bool, checkpoint_folder: Folders, tmp_path: Path
) -> None:
    """`engine: transformers` takes what transformers knows."""
    folder = Path(shutil.copytree(checkpoint_folder(NER), tmp_path / "model"))
    told(hidden_act=activation)(folder)
    config = job(folder, "ner").with_models(lambda model: model.model_copy(update={"engine": "transformers"}))
    with nullcontext() if known else pytest.raises(CheckpointError, match="which transformers does not know"):
        check_models(config)


TOY = Task(Reads.ENTITY, "toy")
TOY_PAIR = Task(Reads.PAIR, "toy")


def toy_folder(folder: Path, states: int, bias: int | None) -> Path:
    """A folder of our own format with a head that no class of transformers has: two labels."""
    weights = load_file(folder / "heads.safetensors")
    weights["toy.weight"] = torch.zeros(2, states * HIDDEN)
    if bias is not None:
        weights["toy.bias"] = torch.zeros(bias)
    save_file(weights, folder / "heads.safetensors")
    manifest = json.loads((folder / "luke_batch.json").read_text())
    manifest["heads"]["toy"] = {"labels": ["good", "bad"]}
    (folder / "luke_batch.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(
    ("task", "states", "bias", "match"),
    [
        (TOY, 1, 2, None),
        (TOY_PAIR, 2, 2, None),
        (TOY_PAIR, 2, None, None),
        (TOY, 1, None, r"missing: toy\.bias"),
        (TOY, 1, 3, r"of another shape: toy\.bias is \(3,\) instead of \(2,\)"),
        (TOY, 2, 2, r"toy\.weight has the shape \(2, 64\), but 2 labels and hidden size 32 ask for \(2, 32\)"),
        (Task(Reads.ENTITY, "other"), 1, 2, "has no other head"),
    ],
)
def test_a_head_of_another_package(
    task: Task, states: int, bias: int | None, match: str | None, multi_head_folder: Path, tmp_path: Path
) -> None:
    """A checkpoint may hold heads that luke-batch does not know; their shapes are checked by what their task reads."""
    folder = toy_folder(Path(shutil.copytree(multi_head_folder, tmp_path / "model")), states, bias)
    checkpoint = resolve(str(folder))
    assert checkpoint.require("toy").labels == ("good", "bad")
    tokenizer = Tokenizer.load(folder)
    with nullcontext() if match is None else pytest.raises(CheckpointError, match=match):
        check_fit(checkpoint, tokenizer, [task])
        weight, found = head_state(checkpoint, "toy")
        assert weight.shape == (2, states * HIDDEN)
        assert (found is None) == (bias is None)


@pytest.mark.parametrize(("recipe", "rows", "head"), [(NER, -2, "ner"), (TYPES, -1, "types")])
def test_rows_that_no_head_asks_for_may_be_missing(
    recipe: Recipe, rows: int, head: str, checkpoint_folder: Folders, tmp_path: Path
) -> None:
    """LUKE's own fine-tuning added as many markers to the words as its task has."""
    folder = Path(shutil.copytree(checkpoint_folder(recipe), tmp_path / "model"))
    fewer_rows(*WORDS, rows=rows)(folder)
    check_models(job(folder, head))


def test_the_check_loads_no_torch(multi_head_folder: Path) -> None:
    """A plan with nothing to do must not pay for it."""
    code = (
        "import sys; from luke_batch.annotate.annotator import check_models; from luke_batch.config import JobConfig; "
        "check_models(JobConfig.model_validate({'models': {'main': {'path': sys.argv[1]}}})); "
        "print({'torch', 'transformers', 'ray'} & sys.modules.keys())"
    )
    command: list[Any] = [sys.executable, "-c", code, multi_head_folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
