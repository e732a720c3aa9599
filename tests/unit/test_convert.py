"""`models convert`: .bin checkpoints become safetensors, and nothing else gets through."""

import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LukeForMaskedLM

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.writing import convert as convert_module
from luke_batch.model.writing.convert import convert
from tests.checkpoints import Recipe, with_head

Folders = Callable[[Recipe], Path]


@pytest.fixture
def published(checkpoint_folder: Folders, tmp_path: Path) -> Callable[[Recipe], tuple[Path, dict[str, torch.Tensor]]]:
    """A function that gives a recipe's checkpoint as it was published before safetensors, and its weights."""

    def write(recipe: Recipe) -> tuple[Path, dict[str, torch.Tensor]]:
        folder = shutil.copytree(checkpoint_folder(recipe), tmp_path / "published")
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin")
        return folder, state

    return write


Published = Callable[[Recipe], tuple[Path, dict[str, torch.Tensor]]]


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversion without a process of its own, which needs seconds to import torch."""

    def run(folder: Path, destination: Path, source: str) -> None:
        assert source == str(folder)
        convert_module._write_safetensors(folder, destination)

    monkeypatch.setattr(convert_module, "_run_process", run)


class Exploit:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """What pickle calls to rebuild the object."""
        return os.mkdir, (str(self.target),)


def leftovers(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(file.name for file in folder.iterdir())


def test_a_bin_checkpoint_is_converted(published: Published, tmp_path: Path) -> None:
    """The copy has the same weights, tokenizer and config, and no pickle; the source is untouched."""
    source, state = published(with_head("ner", Recipe()))
    checkpoint = convert(str(source), tmp_path / "out" / "model")
    assert checkpoint.folder == tmp_path / "out" / "model"
    assert checkpoint.require("ner").labels == ("NIL", "PER", "LOC", "ORG")
    found = load_file(checkpoint.folder / "model.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    renamed = {name.replace("model.safetensors", "pytorch_model.bin") for name in leftovers(checkpoint.folder)}
    assert renamed == set(leftovers(source))
    assert leftovers(tmp_path / "out") == ["model"]


@pytest.mark.usefixtures("in_this_process")
def test_shards_stay_shards(published: Published, tmp_path: Path) -> None:
    """An index of .bin shards becomes an index of safetensors shards."""
    source, state = published(Recipe())
    (source / "pytorch_model.bin").unlink()
    weight_map: dict[str, str] = {}
    for number in (1, 2):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        part = {name: state[name] for name in sorted(state)[number - 1 :: 2]}
        torch.save(part, source / file)
        weight_map |= dict.fromkeys(part, file)
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    checkpoint = convert(str(source), tmp_path / "out")
    assert [file.name for file in checkpoint.weight_files] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert not (checkpoint.folder / "pytorch_model.bin.index.json").exists()
    assert resolve(str(tmp_path / "out")).tensors.keys() == state.keys()


@pytest.mark.usefixtures("in_this_process")
def test_shared_tensors(published: Published, tmp_path: Path) -> None:
    """Files of 4.x tie both prediction heads: the entity table is written once, the word head stays exact."""
    source, state = published(Recipe(architecture="LukeForMaskedLM"))
    words = state["luke.embeddings.word_embeddings.weight"]
    tied = state | {
        "lm_head.decoder.weight": words,
        "entity_predictions.decoder.weight": state["luke.entity_embeddings.entity_embeddings.weight"],
    }
    torch.save(tied, source / "pytorch_model.bin")
    checkpoint = convert(str(source), tmp_path / "out")
    assert "entity_predictions.decoder.weight" not in checkpoint.tensors
    model = LukeForMaskedLM.from_pretrained(checkpoint.folder)
    assert torch.equal(model.lm_head.decoder.weight, words)
    assert torch.equal(model.entity_predictions.decoder.weight, model.luke.entity_embeddings.entity_embeddings.weight)


def test_code_in_a_pickle_does_not_run(published: Published, tmp_path: Path) -> None:
    """A pickle that would run code is refused, the code does not run, and nothing is left behind."""
    source, _ = published(Recipe())
    torch.save({"weight": Exploit(tmp_path / "ran")}, source / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"unsupported GLOBAL posix.mkdir .* would run code") as caught:
        convert(str(source), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch advises to load the file unsafely
    assert leftovers(tmp_path) == ["published"]


def archive(content: object) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


CONTENTS = {
    "empty": b"",
    "text": b"no pickle",
    "a list": archive([torch.zeros(1)]),
    "numbers": archive({"weight": 1}),
    "a plain pickle": pickle.dumps({"weight": 1}, protocol=2),
    "an exploit": archive(Exploit(Path("ran"))),
    "an exploit in a plain pickle": pickle.dumps(Exploit(Path("ran")), protocol=5),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_state_dict_is_refused(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged file, or one with anything but named tensors, ends the process with one line of reason."""
    (tmp_path / "pytorch_model.bin").write_bytes(CONTENTS[content])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["convert", str(tmp_path), str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        convert_module._main()
    assert ended.value.code == convert_module.REFUSED
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert leftovers(tmp_path) == ["pytorch_model.bin"]


def test_a_missing_shard_is_refused(published: Published, tmp_path: Path) -> None:
    """An index that names a file which is not there is named."""
    source, _ = published(Recipe())
    (source / "pytorch_model.bin").unlink()
    index = {"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}
    (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"No such file.*pytorch_model-00001-of-00001\.bin"):
        convert(str(source), tmp_path / "out")


@pytest.mark.usefixtures("in_this_process")
def test_the_destination_must_be_new_or_empty(published: Published, tmp_path: Path) -> None:
    """Nothing is ever overwritten; an empty folder is taken."""
    source, _ = published(Recipe())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    for taken in (tmp_path / "full", tmp_path / "full" / "mine"):
        with pytest.raises(CheckpointError, match="exists and is not an empty folder"):
            convert(str(source), taken)
    (tmp_path / "empty").mkdir()
    assert convert(str(source), tmp_path / "empty").weight_files


def test_nothing_to_convert(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """A folder with safetensors, and one with no weights, each say so."""
    folder = checkpoint_folder(Recipe())
    with pytest.raises(CheckpointError, match="has safetensors weights already"):
        convert(str(folder), tmp_path / "out")
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no pytorch_model\.bin to convert"):
        convert(str(bare), tmp_path / "out")


@pytest.mark.usefixtures("in_this_process")
def test_another_architecture_is_refused(published: Published, tmp_path: Path) -> None:
    """The result must be a checkpoint that luke-batch can use, or there is none."""
    source, _ = published(Recipe())
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="model_type 'bert'"):
        convert(str(source), tmp_path / "out")
    assert leftovers(tmp_path) == ["published"]
