"""What a fine-tuning run is made of: data, labels, bases, scores, and the plan that refuses bad input."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LukeForEntityPairClassification, LukeModel, RobertaConfig, RobertaModel

from luke_batch.base.errors import CheckpointError, InputError, OutputError
from luke_batch.cli import run
from luke_batch.distributed.finetune import Follower
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.weights import encoder_state, head_state
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.writing.single_head import extract_head
from luke_batch.training.curve import Point, append, draw, read_curve
from luke_batch.training.parallel import WorkerGroup
from luke_batch.training.plan import TrainingPlan, make_plan, run_folder
from luke_batch.training.settings import FinetuneConfig, checked
from luke_batch.training.start import prepare, read_start
from luke_batch.training.work import TrainingWorker
from tests.annotated_rows import annotated_rows, put_rows
from tests.checkpoints import GOLDEN, HIDDEN, LABELS, Recipe, make

NER = FinetuneConfig(heads=("ner",))


def sentence(entities: list[tuple[int, int, str | None]], relations: list[tuple[int, int, str]]) -> dict[str, Any]:
    """A row about "Ada met Bo in Rome"."""
    return {
        "text": "Ada met Bo in Rome",
        "entities": [{"start": a, "end": b, "label": label} for a, b, label in entities],
        "relations": [{"head": a, "tail": b, "label": label} for a, b, label in relations],
    }


ADA, BO, ROME = (0, 3), (8, 10), (14, 18)


# Bases


def test_a_luke_base_keeps_its_special_rows_and_gets_markers(tmp_path: Path) -> None:
    """The start's entity table is [PAD] [UNK] [MASK] [MASK2]; words and layers are the base's own."""
    folder = make(tmp_path / "base", Recipe())
    (tmp_path / "start").mkdir()
    start = prepare(str(folder), tmp_path / "start", 0)
    assert (start.name, start.freeze_words) == ("base", False)
    assert read_start(tmp_path / "start") == start
    before, after = encoder_state(resolve(str(folder))), encoder_state(resolve(str(tmp_path / "start")))
    own = Tokenizer.load(folder)
    rows = [own.entity_pad_id, own.entity_unk_id, own.entity_mask_id, own.entity_mask2_id]
    name = "entity_embeddings.entity_embeddings.weight"
    assert torch.equal(after[name], before[name][torch.tensor(rows)])
    assert all(torch.equal(item, before[key]) for key, item in after.items() if key != name)
    LukeModel.from_pretrained(tmp_path / "start")


def test_a_base_with_words_of_8_bits_freezes_them(tmp_path: Path, multi_head_folder: Path) -> None:
    """Their rows could not be stored as exactly again."""
    (tmp_path / "start").mkdir()
    assert prepare(str(multi_head_folder), tmp_path / "start", 0).freeze_words


def roberta(folder: Path) -> Path:
    """A tiny RoBERTa with LUKE's golden vocabulary, which has no markers then."""
    folder.mkdir()
    vocabulary = json.loads((GOLDEN / "luke-v4-layout" / "vocab.json").read_text())
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_text((GOLDEN / "luke-v4-layout" / name).read_text())
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=130,
        pad_token_id=1,
        type_vocab_size=1,
    )
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def test_an_encoder_base_becomes_luke(tmp_path: Path) -> None:
    """Queries are copied for every direction, and the markers get rows that start as "@" and "#"."""
    folder = roberta(tmp_path / "roberta")
    (tmp_path / "start").mkdir()
    prepare(str(folder), tmp_path / "start", 0)
    state = encoder_state(resolve(str(tmp_path / "start")))
    layer = "encoder.layer.0.attention.self"
    assert torch.equal(state[f"{layer}.w2e_query.weight"], state[f"{layer}.query.weight"])
    tokenizer = Tokenizer.load(tmp_path / "start")
    words = state["embeddings.word_embeddings.weight"]
    assert len(words) == tokenizer.vocab_size
    assert torch.equal(words[tokenizer.entity_marker_id], words[int(tokenizer.encode(["@"])[0][-1])])
    assert torch.equal(words[tokenizer.entity_marker2_id], words[int(tokenizer.encode(["#"])[0][-1])])


def test_other_bases_are_refused_with_the_cure(tmp_path: Path) -> None:
    """Another architecture, WordPiece, missing weights."""
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt" / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(CheckpointError, match="'gpt2' is neither LUKE's nor one of bert, roberta"):
        prepare(str(tmp_path / "gpt"), tmp_path, 0)
    folder = roberta(tmp_path / "bert")
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    wordpiece = {"model": {"type": "WordPiece", "vocab": {"[UNK]": 0}}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(wordpiece))
    with pytest.raises(CheckpointError, match="byte-level BPE or Unigram"):
        prepare(str(folder), tmp_path, 0)
    other = roberta(tmp_path / "hollow")
    tensors = load_file(other / "model.safetensors")
    lacking = "encoder.layer.0.attention.self.query.weight"
    save_file({k: v for k, v in tensors.items() if "LayerNorm" not in k}, other / "model.safetensors")
    assert lacking in tensors
    with pytest.raises(CheckpointError, match=r"no .*LayerNorm.* among the weights"):
        prepare(str(other), tmp_path, 0)


# Plans and runs


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A tiny LUKE checkpoint."""
    return str(make(tmp_path / "base", Recipe()))


def trained(tmp_path: Path, base: str, heads: tuple[Any, ...], rows: list[dict[str, Any]]) -> Path:
    """The model folder of a run of a few steps in this process, with dev."""
    config = FinetuneConfig(
        heads=heads, base=base, steps=3, batch_tokens=128, evaluations=1, class_weights="balanced",
        gradient_checkpointing=True, allow_overlap=True,
    )  # fmt: skip
    train = put_rows(tmp_path / "train.parquet", rows)
    dev = put_rows(tmp_path / "dev.parquet", rows[:6])
    make_plan(train, dev, config, tmp_path / "model")
    run = run_folder(tmp_path / "model")
    TrainingWorker(run, WorkerGroup()).train()
    return run / "model"


def test_several_heads_are_one_model_of_format_1(tmp_path: Path, base: str) -> None:
    """LukeModel loads the encoder; every head has its labels, and gives the logits of a single-head copy."""
    rows = annotated_rows(12)
    rows[0]["relations"].append({"head": 0, "tail": 1, "label": "birthplace"})
    folder = trained(tmp_path, base, ("ner", "types", "relations"), rows)
    checkpoint = resolve(str(folder))
    assert checkpoint.heads["ner"].labels == ("NIL", "LOC", "ORG", "PER")
    assert checkpoint.heads["types"].labels == ("LOC", "ORG", "PER")
    assert checkpoint.heads["relations"].labels == ("birthplace", "employer", "residence")
    assert checkpoint.heads["relations"].threshold is not None
    loading: Any = LukeModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
    assert not any(loading[1].values())
    card = (folder / "README.md").read_text()
    assert "--head ner --head types --head relations" in card
    assert re.search(r"`relations`: 3 labels, several at a time", card)


@pytest.mark.parametrize("head", ["types", "relations"])
def test_a_single_head_is_of_transformers_own_class(tmp_path: Path, base: str, head: str) -> None:
    """Several labels of a span or pair become a multi-label head with its threshold."""
    rows = annotated_rows(12)
    rows[0]["entities"].append({**rows[0]["entities"][0], "label": "writer"})
    rows[0]["relations"].append({"head": 0, "tail": 1, "label": "birthplace"})
    folder = trained(tmp_path, base, (head,), rows)
    facts = resolve(str(folder)).heads[head]
    assert facts.multi_label
    assert facts.threshold is not None
    assert json.loads((folder / "config.json").read_text())["problem_type"] == "multi_label_classification"


def test_a_run_in_one_process_is_a_function_of_its_seed(tmp_path: Path, base: str) -> None:
    """The same settings give the same weights, bit for bit."""
    states: list[dict[str, torch.Tensor]] = []
    for number in range(2):
        folder = trained(tmp_path / str(number), base, ("ner",), annotated_rows(12))
        states.append(load_file(folder / "model.safetensors"))
    assert all(torch.equal(item, states[1][name]) for name, item in states[0].items())


def test_an_interrupted_worker_goes_on_to_the_same_weights(tmp_path: Path, base: str) -> None:
    """Weights, optimizer, order of the data and the best state: all come back from the folder of the run."""
    rows = annotated_rows(12)
    train, dev = (put_rows(tmp_path / f"{name}.parquet", rows) for name in ("train", "dev"))
    config = FinetuneConfig(
        heads=("ner", "types"), base=base, steps=6, batch_tokens=128, evaluations=3, checkpoint_seconds=1e-6,
        allow_overlap=True,
    )  # fmt: skip
    for name in ("whole", "stopped"):
        make_plan(train, dev, config, tmp_path / name)
    runs = [run_folder(tmp_path / name) for name in ("whole", "stopped")]
    TrainingWorker(runs[0], WorkerGroup()).train()

    worker = TrainingWorker(runs[1], WorkerGroup())
    watch = worker._watch

    def stop_in_step_5() -> None:
        watch()
        if worker._trainer.progress.step == 5:
            raise KeyboardInterrupt

    worker._watch = stop_in_step_5
    with pytest.raises(KeyboardInterrupt):
        worker.train()
    assert not (runs[1] / "model").exists()
    resumed = TrainingWorker(runs[1], WorkerGroup())
    resumed.train()
    assert resumed._trainer.progress.step == 6
    whole, other = ({f.name: f for f in (run / "model").iterdir()} for run in runs)
    assert whole.keys() == other.keys()
    for name in ("model.safetensors", "heads.safetensors"):
        expected, found = load_file(whole[name]), load_file(other[name])
        assert all(torch.equal(found[key], item) for key, item in expected.items())
    scores = [[p for p in read_curve(run / "curve.jsonl") if "dev" in p] for run in runs]
    assert [(p["step"], p["dev"]) for p in scores[0]] == [(p["step"], p["dev"]) for p in scores[1]]


def test_dev_labels_that_train_lacks_are_reported(tmp_path: Path, base: str) -> None:
    """They count as misses."""
    train = put_rows(tmp_path / "train.parquet", annotated_rows(4))
    dev = put_rows(tmp_path / "dev.parquet", [sentence([(*ADA, "PER"), (0, 10, "GPE")], [])])
    plan, finished = make_plan(train, dev, NER.model_copy(update={"base": base}), tmp_path / "model")
    assert not finished
    assert "DEV: ner labels that TRAIN lacks count as misses: GPE" in plan.notes
    assert "DEV: 1 mentions overlap others; flat decoding finds one of each" in plan.notes
    assert TrainingPlan.read(run_folder(tmp_path / "model")) == plan


def test_another_run_is_not_overwritten(tmp_path: Path, base: str) -> None:
    """Neither a foreign folder, nor a file, nor the unfinished run of other settings."""
    train = put_rows(tmp_path / "train.parquet", annotated_rows(4))
    config = NER.model_copy(update={"base": base})
    make_plan(train, None, config, tmp_path / "model")
    make_plan(train, None, config, tmp_path / "model")
    with pytest.raises(OutputError, match="unfinished run of other settings"):
        make_plan(train, None, config.model_copy(update={"seed": 1}), tmp_path / "model")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    with pytest.raises(OutputError, match="something else in it"):
        make_plan(train, None, config, tmp_path / "photos")
    with pytest.raises(OutputError, match="is a file"):
        make_plan(train, None, config, tmp_path / "train.parquet")


def test_examples_that_are_all_too_long_are_an_error(tmp_path: Path, base: str) -> None:
    """With the reason and the option that helps."""
    row = {"text": "Ada " * 40, "entities": [{"start": 0, "end": 3, "label": "PER"}]}
    train = put_rows(tmp_path / "train.parquet", [row])
    config = NER.model_copy(update={"base": base, "max_tokens": 16})
    with pytest.raises(InputError, match=r"ner: window too long.*--max-tokens"):
        make_plan(train, None, config, tmp_path / "model")
    crowd = NER.model_copy(update={"base": base, "workers": 2})
    with pytest.raises(InputError, match="1 examples of the head ner for 2 workers"):
        make_plan(train, None, crowd, tmp_path / "model")
    assert not run_folder(tmp_path / "model").exists()


def test_a_curve_keeps_the_later_of_two_points(tmp_path: Path) -> None:
    """A killed run repeats steps, and may leave half a line."""
    file = tmp_path / "curve.jsonl"
    points: list[Point] = [
        {"step": 1, "losses": {"ner": 2}},
        {"step": 2, "losses": {"ner": 1}},
        {"step": 2, "dev": {"ner": 0}},
    ]
    for point in points:
        append(file, point)
    with file.open("a") as lines:
        lines.write('{"step": 3, "los')
    again = {"step": 2, "losses": {"ner": 1.5}}
    append(file, again)
    assert read_curve(file) == [points[0], again, points[2]]
    assert read_curve(tmp_path / "none") == []
    assert not draw([], tmp_path)


def test_progress_shows_rate_and_what_is_left(tmp_path: Path) -> None:
    """Dev scores at once, losses with the rate since this command began; earlier lines are old news."""
    file = tmp_path / "curve.jsonl"
    append(file, {"step": 1, "steps": 9, "seconds": 1, "dev": {"ner": 0}})
    shown = io.StringIO()
    with Follower(file, shown, line_seconds=0):
        for step in (3, 5):
            losses, examples = {"ner": 0.5}, {"ner": 10 * step}
            append(file, {"step": step, "steps": 9, "seconds": step, "losses": losses, "examples": examples})
        append(file, {"step": 5, "steps": 9, "seconds": 5, "dev": {"ner": 0.25}})
    assert shown.getvalue().splitlines() == [
        "step 3/9, loss ner 0.500",
        "step 5/9, loss ner 0.500, 10.0 examples/s a worker, 4 s left",
        "step 5/9, dev ner 25.0",
    ]


# The command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps '0'|--steps 0"),
        (["--multi-label", "perhaps"], "--multi-label 'perhaps'"),
        (["--head", "ner"], "each head once"),
        (["--base", "/nowhere"], "no such model folder"),
    ],
)
def test_bad_options_end_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """One line that names the option; nothing is written."""
    train = put_rows(tmp_path / "data" / "train.parquet", annotated_rows(2))
    code = run(["finetune", train, str(tmp_path / "model"), "--head", "ner", *arguments])
    error = capsys.readouterr().err
    assert code == 2
    assert re.search(message, error)
    assert error.count("\n") == 1
    assert [item.name for item in tmp_path.iterdir()] == ["data"]


def test_a_url_as_output_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Models are trained into a folder."""
    train = put_rows(tmp_path / "train.parquet", annotated_rows(2))
    assert run(["finetune", train, "s3://bucket/model", "--head", "ner"]) == 2
    assert "is a URL" in capsys.readouterr().err


# One head of a checkpoint


def test_convert_writes_one_head_for_transformers(tmp_path: Path, multi_head_folder: Path) -> None:
    """8-bit rows become floats; labels and decoding settings stay; transformers' class takes all of it."""
    assert run(["models", "convert", str(multi_head_folder), str(tmp_path / "one"), "--head", "relations"]) == 0
    loading: Any = LukeForEntityPairClassification.from_pretrained(tmp_path / "one", output_loading_info=True)
    model, told = loading
    assert not any(told.values())
    before, after = resolve(str(multi_head_folder)), resolve(str(tmp_path / "one"))
    assert after.heads["relations"] == before.heads["relations"]
    assert after.context == "none"
    assert model.config.id2label == dict(enumerate(LABELS["relations"]))
    weight, bias = head_state(before, "relations")
    assert bias is None
    assert torch.equal(model.classifier.weight, weight)
    own = encoder_state(before)
    assert all(torch.equal(item, own[name]) for name, item in encoder_state(after).items())
    with pytest.raises(CheckpointError, match="not an empty folder"):
        extract_head(str(multi_head_folder), "ner", tmp_path / "one")
    with pytest.raises(CheckpointError, match="no such head"):
        extract_head(str(multi_head_folder), "qa", tmp_path / "two")


def test_a_newer_section_is_refused(tmp_path: Path, multi_head_folder: Path) -> None:
    """A later luke-batch may mean something else by its settings."""
    extract_head(str(multi_head_folder), "ner", tmp_path / "one")
    file = tmp_path / "one" / "config.json"
    config = json.loads(file.read_text())
    assert config["luke_batch"]["temperature"] == 1.5
    config["luke_batch"]["temperature"] = 0
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"luke_batch\.temperature"):
        resolve(str(tmp_path / "one"))
    config["luke_batch"] = {"format": 2}
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="format 2, but this luke-batch reads 1; update"):
        resolve(str(tmp_path / "one"))


def test_settings_say_which_option_is_wrong() -> None:
    """In the words of the command line."""
    with pytest.raises(Exception, match="--batch-tokens 3: "):
        checked(heads=("ner",), batch_tokens=3)
    assert FinetuneConfig(heads=("ner",)).rates(384) == (1e-4, pytest.approx(1e-3))
    assert FinetuneConfig(heads=("ner",), learning_rate=3e-5).rates(1024)[0] == 3e-5
    outside = {"checkpoint_seconds", "allow_overlap"}
    assert FinetuneConfig.model_fields.keys() - checked(heads=("ner",)).identity.keys() == outside
