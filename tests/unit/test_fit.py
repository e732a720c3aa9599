"""What makes a checkpoint useless is found before any work: by the driver, from headers and vocabularies."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from luke_batch.annotate.annotator import check_models
from luke_batch.base.errors import CheckpointError
from luke_batch.config import JobConfig
from tests.checkpoints import LITE_ENTITIES, Recipe, with_head

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
