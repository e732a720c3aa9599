"""`luke-batch models list`: what is known, what a checkpoint carries, and that its configuration runs."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
import torch
from transformers import LukeConfig, LukeModel

from luke_batch import Annotator, JobConfig
from luke_batch.base.yaml_text import parse_yaml
from luke_batch.cli import run
from luke_batch.config.loading import load_config
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.listing import FOLDER, Published, catalogue, describe, snippet
from tests.checkpoints import HEADS, HIDDEN, Recipe, with_head

Folders = Callable[[Recipe], Path]

NAMES = [
    *("luke-base", "luke-large", "luke-base-lite", "luke-large-lite"),
    *(f"luke-large-finetuned-{task}" for task in ("conll-2003", "tacred", "open-entity")),
    *("mluke-base", "mluke-large", "mluke-base-lite", "mluke-large-lite"),
    *(f"mluke-large-lite-finetuned-{task}" for task in ("conll-2003", "kbp37")),
    *(f"luke-japanese-{size}" for size in ("base", "base-lite", "large", "large-lite")),
]
TYPES = ("entity", "event", "group", "location", "object", "organization", "person", "place", "time")
RELATIONS = ("no_relation", "org:founded", "per:city_of_birth", "per:employee_of")
DIRECTED = ("per:employee_of(e1,e2)", "no_relation", "per:employee_of(e2,e1)", "org:members(e1,e2)")
LABELS = {
    "luke-large-finetuned-conll-2003": ("NIL", "MISC", "PER", "ORG", "LOC"),
    "mluke-large-lite-finetuned-conll-2003": ("O", "LOC", "PER", "ORG", "MISC"),
    "luke-large-finetuned-tacred": RELATIONS,
    "mluke-large-lite-finetuned-kbp37": DIRECTED,
    "luke-large-finetuned-open-entity": TYPES,
}
"""In the order of the published config.json; of the many relations a few."""
TEXTS = [
    "Beyoncé lives in Los Angeles. She met Barack Obama in Paris.",
    "ビヨンセは東京に住んでいる。",
    None,
    "",
]


def recipe_of(model: Published) -> Recipe:
    """A small random checkpoint of the same class, kind of tokenizer, labels, attention and entities."""
    kind: Literal["luke", "mluke"] = "luke" if model.size in ("luke-base", "luke-large") else "mluke"
    return Recipe(
        architecture=model.architecture,
        kind=kind,
        labels=LABELS.get(model.id.partition("/")[2], ()),
        entity_aware=catalogue().sizes[model.size].entity_aware,
        entity_emb_size=HIDDEN if model.lite else 16,
        lite=model.lite,
    )


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints."""
    assert run(["models", "list", *arguments]) == 0
    return capsys.readouterr().out


def test_every_published_checkpoint_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """With its licence, scores and configuration; the list says what to do with a .bin."""
    text = printed(capsys)
    for name in NAMES:
        assert f"\nstudio-ousia/{name}  Apache-2.0\n" in text
    assert text.startswith("embedded  Apache-2.0")
    assert "ner (4 labels)" in text
    assert "CoNLL-2003 F1 94.6 (evaluation of studio-ousia/luke)" in text
    assert "luke-batch models convert ID DST" in text
    assert [model.id for model in catalogue().models] == [f"studio-ousia/{name}" for name in NAMES]


def test_the_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One object, with the facts of models.yaml."""
    found = json.loads(printed(capsys, "--json"))
    scores = {model["id"]: model["scores"] for model in found["models"]}
    (tacred,) = scores["studio-ousia/luke-large-finetuned-tacred"]
    assert (tacred["metric"], tacred["value"], tacred["source"]) == ("F1", "72.7", "Yamada et al. 2020")
    assert found["embedded"]["heads"]["ner"]["labels"] == ["NIL", "PER", "ORG", "LOC"]
    assert found["licence"] == "Apache-2.0"


@pytest.mark.parametrize("name", sorted(catalogue().sizes))
def test_parameters_are_those_of_the_sizes(name: str) -> None:
    """Counted by transformers, without the rows of entities."""
    size = catalogue().sizes[name]
    config = LukeConfig(
        vocab_size=size.words,
        entity_vocab_size=size.entities,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 64,
        intermediate_size=4 * size.hidden,
        max_position_embeddings=514,
        type_vocab_size=1,
        use_entity_aware_attention=size.entity_aware,
    )
    with torch.device("meta"):
        model = LukeModel(config, add_pooling_layer=False)
    assert sum(item.numel() for item in model.parameters()) - 256 * size.entities == size.parameters


KINDS = {(model.configuration, recipe_of(model)): model for model in catalogue().models}
"""Base and large checkpoints differ in their size alone."""


@pytest.mark.parametrize("model", KINDS.values(), ids=lambda model: model.id)
def test_a_published_configuration_runs(model: Published, checkpoint_folder: Folders, multi_head_folder: Path) -> None:
    """Its file loads as it is, and runs where `main` is a checkpoint like the published one.

    For speed a small model stands in for the embedded one, save in one case.
    """
    as_shipped = load_config(str(model.configuration_file))
    folder = checkpoint_folder(recipe_of(model))
    assignments = [f"models.main.path={folder}"]
    if "names" in as_shipped.models and model.configuration != "open-entity":
        assignments.append(f"models.names.path={multi_head_folder}")
    config = load_config(str(model.configuration_file), assignments)
    assert [head.head for head in config.heads] == [head.head for head in as_shipped.heads]
    annotated = Annotator.from_config(config).annotate(
        pa.table({"id": list("abcd"), "text": pa.array(TEXTS, pa.string())})
    )
    assert annotated["error"].null_count == len(TEXTS)
    heads = {head.head: head for head in config.heads}
    labels = set(recipe_of(model).labels)
    mentions = [mention for row in annotated["mentions"].to_pylist() for mention in row]
    match model.configuration:
        case "conll-2003":
            assert config.heads[0].model_dump()["context"] == "document"
            assert {mention["label"] for mention in mentions} <= labels - {"NIL", "O"}
            assert mentions
        case "tacred" | "kbp37":
            relations = [row["label"] for rows in annotated["relations"].to_pylist() for row in rows]
            assert set(relations) <= labels - {"no_relation"}
        case "open-entity":
            found = [{entry["label"] for entry in mention["types"]} for mention in mentions]
            assert set[str]().union(*found) <= labels
            assert max(map(len, found)) > 1  # several at a time
        case _:
            assert "embeddings" in heads
            assert [value is not None for value in annotated["text_embedding"].to_pylist()] == [
                True,
                True,
                False,
                False,
            ]


def test_every_configuration_is_used() -> None:
    """No file lies there in vain, and each names a checkpoint that uses it."""
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"models.yaml"}
    assert files == {model.configuration_file.name for model in catalogue().models}
    for file in files:
        main = load_config(str(FOLDER / file)).models["main"].path
        published = catalogue().find(main)
        assert published is not None
        assert published.configuration_file.name == file


@pytest.mark.parametrize("head", [*HEADS, "embeddings"])
@pytest.mark.parametrize("lite", [False, True])
def test_a_folder_is_described(
    head: str, lite: bool, checkpoint_folder: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its heads, labels, tokenizer, entities, attention, weights, and a configuration that loads."""
    recipe = Recipe(kind="mluke", entity_aware=False, lite=lite, entity_emb_size=HIDDEN)
    recipe = recipe if head == "embeddings" else with_head(head, recipe)
    folder = str(checkpoint_folder(recipe))
    (found,) = json.loads(printed(capsys, folder, "--json"))["models"]
    expected = set(resolve(folder).heads) - ({"links"} if lite else set())
    assert set(found["heads"]) == expected
    if recipe.labels:
        assert found["heads"][head]["labels"] == list(recipe.labels)
    assert (found["tokenizer"], found["titles"] == 0, found["lite"]) == ("mluke", lite, lite)
    assert (found["entity_aware"], found["weights"]) == (False, "safetensors")
    config = JobConfig.model_validate(parse_yaml(found["configuration"], "snippet"))
    assert config.models["main"].path == folder
    used = {item.head for item in config.heads if item.model == "main"}
    assert used <= expected
    assert head in used or head in ("links", "cloze")
    text = printed(capsys, folder)
    assert "not entity-aware" in text
    assert ("lite: special entries alone" in text) == lite
    assert found["configuration"].rstrip() in text


def test_labels_and_calibration_are_told(multi_head_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a folder of our own format; a long list of labels is cut."""
    text = printed(capsys, str(multi_head_folder), "embedded")
    assert "4 labels: NIL, PER, LOC, ORG; " in text
    assert "NIL means nothing; calibrated, temperature 1.5; spans of up to 6 words" in text
    assert "several at a time; threshold 0.4" in text
    assert "39 labels: academicjournal," in text
    assert "discipline and 27 more" in text


def test_a_pickle_is_named(checkpoint_folder: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that needs to be converted is described, and the command stands there."""
    folder = Path(shutil.copytree(checkpoint_folder(with_head("ner", Recipe())), tmp_path / "model"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    text = printed(capsys, str(folder))
    assert f"luke-batch models convert {folder} DST" in text


def test_a_published_checkpoint_gets_its_configuration(multi_head_folder: Path) -> None:
    """By its id, a revision too: the file itself, or the file with another `main`."""
    found = describe(str(multi_head_folder))
    own = snippet(replace(found, path="studio-ousia/luke-large-finetuned-tacred"))
    assert own == (FOLDER / "tacred.yaml").read_text(encoding="utf-8")
    other: Any = parse_yaml(snippet(replace(found, path="studio-ousia/mluke-base@main")), "snippet")
    assert other["models"]["main"]["path"] == "studio-ousia/mluke-base@main"
    assert [head["head"] for head in other["heads"]] == ["ner", "links", "embeddings"]


@pytest.mark.parametrize(
    ("argument", "message"), [("no/such/folder", "no such model folder"), ("./x", "no such model folder")]
)
def test_what_is_no_model_is_refused(argument: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, with exit code 2."""
    assert run(["models", "list", argument]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
