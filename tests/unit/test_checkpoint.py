"""Checkpoints: where they come from, what they tell, and what is refused with which words."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import fsspec
import huggingface_hub
import huggingface_hub.constants
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from luke_batch.annotate.annotator import Annotator
from luke_batch.base.errors import CheckpointError
from luke_batch.config import JobConfig
from luke_batch.model.files import checkpoint as checkpoint_module
from luke_batch.model.files import fetch
from luke_batch.model.files.checkpoint import Checkpoint, resolve
from luke_batch.model.files.reading import TensorFacts
from tests.checkpoints import LABELS, Recipe, with_head

Folders = Callable[[Recipe], Path]
Change = Callable[[Path], object]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def ner_copy(checkpoint_folder: Folders, tmp_path: Path) -> Path:
    """A folder with an ner head in the hub's layout, to be spoiled."""
    return shutil.copytree(checkpoint_folder(with_head("ner", Recipe())), tmp_path / "model")


@pytest.fixture
def own_copy(multi_head_folder: Path, tmp_path: Path) -> Path:
    """A folder of format 1, to be spoiled."""
    return shutil.copytree(multi_head_folder, tmp_path / "model")


def edit(name: str, **values: Any) -> Change:
    """A change of keys in a JSON file of the folder; None removes one."""

    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | values
        (folder / name).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))

    return change


def remove(name: str) -> Change:
    """A change that takes a file away."""
    return lambda folder: (folder / name).unlink()


def cut(name: str, size: int) -> Change:
    """A change that leaves the first bytes of a file."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def pickled(folder: Path) -> None:
    """What many published checkpoints look like."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


REFUSALS: dict[str, tuple[Change, str]] = {
    "config missing": (remove("config.json"), "no config.json; copy the whole folder"),
    "config is no JSON": (cut("config.json", 40), "config.json: not readable as JSON"),
    "vocabulary missing": (remove("vocab.json"), "no vocab.json"),
    "merges missing": (remove("merges.txt"), "no merges.txt"),
    "entities missing": (remove("entity_vocab.json"), "no entity_vocab.json"),
    "weights missing": (remove("model.safetensors"), "no model.safetensors; copy the whole folder"),
    "a pickle only": (pickled, "pytorch_model.bin only.*`luke-batch models convert .*model DST`"),
    "another model": (edit("config.json", model_type="bert"), "model_type 'bert'; luke-batch runs LUKE"),
    "weights truncated": (cut("model.safetensors", 5000), "model.safetensors: not a whole safetensors file"),
    "weights cut late": (
        cut("model.safetensors", 100_000),
        "model.safetensors: not a whole safetensors file",
    ),
    "weights empty": (cut("model.safetensors", 0), "model.safetensors: not a whole safetensors file"),
    "too few labels": (
        edit("config.json", id2label={"0": "NIL", "1": "PER"}),
        r"classifier.weight has the shape \(4, 96\), but 2 labels and hidden size 32 ask for \(2, 96\)",
    ),
    "labels with gaps": (edit("config.json", id2label={"0": "NIL", "2": "PER"}), "gaps in its ids"),
    "labels no mapping": (edit("config.json", id2label=["NIL"]), "id2label in config.json is not"),
    "another head's class": (
        edit("config.json", architectures=["LukeForEntityClassification"]),
        r"hidden size 32 ask for \(4, 32\)",
    ),
    "no hidden size": (edit("config.json", hidden_size=None), "no usable hidden_size"),
}

OWN_REFUSALS: dict[str, tuple[Change, str]] = {
    "a newer format": (edit("luke_batch.json", format=2), "format 2, but this luke-batch reads 1; update"),
    "no heads": (edit("luke_batch.json", heads=None), "heads: Field required"),
    "a broken head": (edit("luke_batch.json", heads={"ner": {"temperature": 0}}), "heads.ner.temperature"),
    "an unknown none label": (
        edit("luke_batch.json", heads={"ner": {"labels": ["A"], "none_label": "B"}}),
        "none_label 'B' is not among its labels",
    ),
    "head weights missing": (remove("heads.safetensors"), "no heads.safetensors"),
    "a head without weights": (
        edit("config.json", hidden_size=64),
        r"ner.weight has the shape \(4, 96\), but 4 labels and hidden size 64 ask for \(4, 192\)",
    ),
    "a shard missing": (remove("model-00002-of-00002.safetensors"), 'names the shard "model-00002-of-00002'),
    "a shard outside": (
        edit("model.safetensors.index.json", weight_map={"a": "../model.safetensors"}),
        "which is not in the folder",
    ),
    "an empty index": (edit("model.safetensors.index.json", weight_map={}), "no weight_map"),
}


def refused(path: str, match: str) -> None:
    """`resolve` refuses with one line that says so."""
    with pytest.raises(CheckpointError, match=match) as caught:
        resolve(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", REFUSALS)
def test_a_spoiled_folder_is_refused(ner_copy: Path, case: str) -> None:
    """A folder that lacks a file, is damaged or is something else is refused, naming file and cure."""
    change, match = REFUSALS[case]
    change(ner_copy)
    refused(str(ner_copy), match)


@pytest.mark.parametrize("case", OWN_REFUSALS)
def test_a_spoiled_folder_of_ours_is_refused(own_copy: Path, case: str) -> None:
    """The same for luke-batch's own format."""
    change, match = OWN_REFUSALS[case]
    change(own_copy)
    refused(str(own_copy), match)


@pytest.mark.parametrize("path", ["/no/such/folder", "./nowhere", "nowhere", "~/no-such-model"])
def test_a_path_that_is_no_folder_is_refused(path: str) -> None:
    """What cannot be a hub id is looked for on the disk alone."""
    refused(path, f"{path}: no such model folder; give a folder, a hub id")


def test_embedded_without_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of the package without its model says where it looked."""
    monkeypatch.setattr(fetch, "EMBEDDED_FOLDER", tmp_path / "gone")
    refused("embedded", r"embedded \(.*gone\): no such model folder")


def test_embedded_is_the_package_s_model(own_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`embedded` names the folder inside the package."""
    monkeypatch.setattr(fetch, "EMBEDDED_FOLDER", own_copy)
    assert resolve("embedded").folder == own_copy


def test_facts_of_a_head_checkpoint(ner_copy: Path) -> None:
    """Labels come in the order of ids; what config.json does not tell stays unknown."""
    checkpoint = resolve(str(ner_copy))
    facts = checkpoint.require("ner")
    assert facts.labels == LABELS["ner"]
    assert (facts.multi_label, facts.none_label, facts.max_words, facts.temperature) == (
        None,
        None,
        None,
        1.0,
    )
    assert checkpoint.heads.keys() == {"ner", "embeddings"}
    assert checkpoint.architectures == ("LukeForEntitySpanClassification",)
    assert (checkpoint.hidden_size, checkpoint.max_mention_length, checkpoint.context) == (32, 30, "document")
    assert (checkpoint.revision, checkpoint.weight_files) == (None, (ner_copy / "model.safetensors",))


def test_labels_without_names(ner_copy: Path) -> None:
    """Default names are left out of config.json by transformers: they are LABEL_0, LABEL_1, …"""
    edit("config.json", id2label=None, label2id=None)(ner_copy)
    assert resolve(str(ner_copy)).require("ner").labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


@pytest.mark.parametrize(
    ("problem_type", "multi_label"),
    [("multi_label_classification", True), ("single_label_classification", False), (None, None)],
)
def test_multi_label_by_problem_type(
    checkpoint_folder: Folders,
    problem_type: Literal["single_label_classification", "multi_label_classification"] | None,
    multi_label: bool | None,
) -> None:
    """`problem_type` tells whether labels exclude one another, and its absence tells nothing."""
    folder = checkpoint_folder(with_head("types", Recipe(problem_type=problem_type)))
    assert resolve(str(folder)).require("types").multi_label is multi_label


def test_facts_of_our_own_format(multi_head_folder: Path) -> None:
    """luke_batch.json tells all that the heads need, whatever else it holds."""
    checkpoint = resolve(str(multi_head_folder))
    ner, types = checkpoint.require("ner"), checkpoint.require("types")
    assert checkpoint.heads.keys() == {"ner", "types", "relations", "embeddings"}
    assert (ner.labels, ner.none_label, ner.temperature, ner.max_words) == (LABELS["ner"], "NIL", 1.5, 6)
    assert (types.multi_label, types.threshold, checkpoint.context) == (True, 0.4, "none")
    assert [file.name for file in checkpoint.weight_files] == [
        "heads.safetensors",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_a_missing_head_is_refused(ner_copy: Path) -> None:
    """The message names the checkpoint's class and the heads that it has."""
    with pytest.raises(CheckpointError, match=r"no types head \(it is a LukeFor.*\); it has embeddings, ner"):
        resolve(str(ner_copy)).require("types")


def test_layout_of_transformers_5(checkpoint_folder: Folders) -> None:
    """A folder whose entity vocabulary is in tokenizer_config.json is whole."""
    folder = checkpoint_folder(Recipe(layout="v5"))
    assert not (folder / "entity_vocab.json").exists()
    assert resolve(str(folder)).heads.keys() == {"embeddings"}


def test_the_hash_is_that_of_the_content(ner_copy: Path, tmp_path: Path) -> None:
    """The hash survives a move and a README, and changes with weights, tokenizer or config."""
    first = resolve(str(ner_copy)).weights_hash
    moved = shutil.copytree(ner_copy, tmp_path / "moved")
    (moved / "README.md").write_text("A model.")
    assert resolve(str(moved)).weights_hash == first
    hashes = {first}
    for name in ("model.safetensors", "merges.txt", "entity_vocab.json", "config.json"):
        content = (moved / name).read_bytes()
        changed = content[:-1] + b"\1" if name == "model.safetensors" else content + b"\n"
        (moved / name).write_bytes(changed)
        hashes.add(resolve(str(moved)).weights_hash)
    assert len(hashes) == 5


def test_plans_load_no_torch(multi_head_folder: Path) -> None:
    """Facts and hash of a checkpoint are read without importing torch or transformers."""
    code = (
        "import sys; from luke_batch.model.files.checkpoint import resolve; import luke_batch.model.engine.engine; "
        "resolve(sys.argv[1]).weights_hash; print({'torch', 'transformers', 'ray'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code, multi_head_folder], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def hub(ner_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a checkpoint that lies in the hub's cache, with no network."""
    repository = tmp_path / "hub" / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(ner_copy, repository / "snapshots" / COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return "org/name"


@pytest.mark.parametrize("suffix", ["", "@main", f"@{COMMIT}"])
def test_a_hub_id_gives_the_commit(hub: str, suffix: str) -> None:
    """A cached checkpoint works offline, and its revision is the commit, whatever was asked for."""
    checkpoint = resolve(hub + suffix)
    assert (checkpoint.revision, checkpoint.path) == (COMMIT, hub + suffix)
    assert checkpoint.pinned == f"{hub}@{COMMIT}"
    assert checkpoint.require("ner").labels == LABELS["ner"]


def test_a_branch_that_moves_is_resolved_once(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit found first holds for the process, for other files of the repository too, and is what workers get."""
    asked: list[tuple[str | None, list[str]]] = []
    download = huggingface_hub.snapshot_download

    def counted(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((revision, allow_patterns))
        return download(repository, revision=revision, allow_patterns=allow_patterns)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", counted)
    folder = fetch.fetch(hub, ("*.json",)).folder
    moved = "f" * 40
    shutil.copytree(folder, folder.parent / moved)
    (folder.parents[1] / "refs" / "main").write_text(moved)
    found = [resolve(hub).pinned for _ in range(3)]
    assert found == [f"{hub}@{COMMIT}"] * 3
    assert asked == [(None, ["*.json"]), (COMMIT, list(fetch.PATTERNS))]


def test_a_hub_that_could_not_be_reached_is_asked_again(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is not remembered."""
    with monkeypatch.context() as context:
        context.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/no/such/cache")
        refused(hub, "the hub did not deliver it")
    assert resolve(hub).revision == COMMIT


def test_a_job_reads_each_checkpoint_once(
    multi_head_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of a job, each of its stages and the columns of vectors ask for the same facts and tokenizer."""
    folder = shutil.copytree(multi_head_folder, tmp_path / "model")
    opened: Counter[str] = Counter()
    read_bytes, headers = Path.read_bytes, checkpoint_module.read_headers

    def counted(path: Path) -> bytes:
        if path.parent == folder:
            opened[path.name] += 1
        return read_bytes(path)

    def read_headers(files: list[Path]) -> dict[str, TensorFacts]:
        opened["headers"] += 1
        return headers(files)

    monkeypatch.setattr(Path, "read_bytes", counted)
    monkeypatch.setattr(checkpoint_module, "read_headers", read_headers)
    config = JobConfig.model_validate(
        {
            "models": {"main": {"path": str(folder)}},
            "heads": [{"head": "ner", "spans": "auto"}, {"head": "types"}, {"head": "embeddings"}],
        }
    )
    Annotator.from_config(config)
    Annotator.from_config(config)
    # tokenizer_config.json tells the checkpoint and the tokenizer something.
    assert max(count for name, count in opened.items() if name != "tokenizer_config.json") == 1
    assert opened["headers"] == opened["config.json"] == opened["luke_batch.json"] == opened["vocab.json"] == 1
    before = resolve(str(folder))
    edit("config.json", extra=1)(folder)
    assert (resolve(str(folder)).config["extra"], before.config.get("extra")) == (1, None)


@pytest.mark.parametrize("path", ["org/other", "org/name@v9"])
@pytest.mark.usefixtures("hub")
def test_a_hub_id_that_cannot_be_reached_is_refused(path: str) -> None:
    """Neither cached nor reachable: one line with what to check."""
    refused(path, f"{path}: no such folder, and the hub did not deliver it .*check the name and the network")


@pytest.fixture
def store(ner_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a checkpoint in an object store, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    filesystem = fsspec.filesystem("memory")
    filesystem.put(f"{ner_copy}/", "/models/ner/", recursive=True)
    filesystem.pipe_file("/models/ner/pytorch_model.bin", b"of no use")
    yield "memory://models/ner"
    filesystem.rm("/models", recursive=True)


def test_a_url_is_downloaded_once(store: str, ner_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes at once get one folder with the same content; pickles stay where they are."""
    get_file, turn = MemoryFileSystem.get_file, Lock()

    def one_at_a_time(self: MemoryFileSystem, source: str, target: str) -> None:
        with turn:  # a file in fsspec's memory has one position, which all its readers share
            get_file(self, source, target)

    monkeypatch.setattr(MemoryFileSystem, "get_file", one_at_a_time)
    with ThreadPoolExecutor(4) as pool:
        found: list[Checkpoint] = list(pool.map(resolve, [store, store + "/", store, store]))
    folders = {checkpoint.folder for checkpoint in found}
    assert len(folders) == 1
    folder = folders.pop()
    assert {file.name for file in folder.iterdir()} == {file.name for file in ner_copy.iterdir()}
    assert list(folder.parent.iterdir()) == [folder]
    assert found[0].weights_hash == resolve(str(ner_copy)).weights_hash
    assert found[0].revision == folder.name


def test_a_changed_url_is_downloaded_again(store: str) -> None:
    """The cache goes by content: what was replaced in the store is not served from it."""
    first = resolve(store)
    filesystem = fsspec.filesystem("memory")
    config = json.loads(filesystem.cat_file("/models/ner/config.json"))
    filesystem.pipe_file("/models/ner/config.json", json.dumps(config | {"extra": 1}).encode())
    second = resolve(store)
    assert (first.folder.is_dir(), second.config["extra"]) == (True, 1)
    assert first.folder != second.folder


def test_an_interrupted_download_leaves_nothing(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that fails in the middle is no checkpoint for the next run."""
    filesystem = fsspec.filesystem("memory")

    def broken(_: str, target: str) -> None:
        Path(target).write_bytes(b"half")

    with monkeypatch.context() as context:
        context.setattr(filesystem, "get_file", broken)
        refused(store, "could not be downloaded .*arrived incomplete.*XDG_CACHE_HOME")
    assert resolve(store).require("ner")


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("memory://models/none", "no such model folder, or an empty one"),
        ("nosuch://a/b", "could not be downloaded"),
    ],
)
@pytest.mark.usefixtures("store")
def test_a_url_without_a_model_is_refused(url: str, match: str) -> None:
    """An empty prefix and an unknown protocol are one clear line."""
    refused(url, match)
