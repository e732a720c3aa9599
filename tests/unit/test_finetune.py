"""What a fine-tuning run is made of: data, labels, bases, scores, and the plan that refuses bad input."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator
from safetensors.torch import load_file, save_file
from transformers import LukeForEntityPairClassification, LukeModel, RobertaConfig, RobertaModel

from luke_batch.cli import run
from luke_batch.errors import CheckpointError, InputError, OutputError
from luke_batch.heads.scores import Labels
from luke_batch.model.checkpoint import resolve
from luke_batch.model.single_head import extract_head
from luke_batch.model.tokenizer import Tokenizer
from luke_batch.model.weights import encoder_state, head_state
from luke_batch.model.windows import Window
from luke_batch.training.corpus import read_corpus
from luke_batch.training.curves import draw
from luke_batch.training.data import Row
from luke_batch.training.labels import (
    gives_unrelated,
    longest_span,
    read_labels,
    relation_pairs,
    without_nothing,
)
from luke_batch.training.model import HeadSpec
from luke_batch.training.parallel import Group
from luke_batch.training.plan import Plan, make_plan, run_folder
from luke_batch.training.result import read_curve
from luke_batch.training.sampling import Example, PassSource
from luke_batch.training.scoring import Outputs, calibrated, labels_of, score, threshold_of, written
from luke_batch.training.settings import FinetuneConfig, checked
from luke_batch.training.start import prepare, read_start
from luke_batch.training.work import Worker
from tests.annotated_rows import annotated_rows, put_rows
from tests.checkpoints import GOLDEN, HIDDEN, LABELS, Recipe, make

NER = FinetuneConfig(heads=("ner",))


def rows_of(tmp_path: Path, rows: list[dict[str, Any]]) -> list[Row]:
    """The rows as a corpus reads them."""
    return [without_nothing(row) for row in read_corpus("TRAIN", put_rows(tmp_path / "r.parquet", rows)).rows]


def sentence(
    entities: list[tuple[int, int, str | None]], relations: list[tuple[int, int, str]]
) -> dict[str, Any]:
    """A row about "Ada met Bo in Rome"."""
    return {
        "text": "Ada met Bo in Rome",
        "entities": [{"start": a, "end": b, "label": label} for a, b, label in entities],
        "relations": [{"head": a, "tail": b, "label": label} for a, b, label in relations],
    }


ADA, BO, ROME = (0, 3), (8, 10), (14, 18)


# Data and labels


def test_unusable_rows_are_counted_by_reason(tmp_path: Path) -> None:
    """Nulls, offsets out of range, relations to nothing and empty texts cost their row, and no other."""
    good = sentence([(*ADA, "PER"), (*BO, "PER")], [(0, 1, "met")])
    rows = [
        good,
        {**good, "text": None},
        {**good, "entities": [{"start": None, "end": 3, "label": "PER"}], "relations": []},
        {**good, "entities": [None], "relations": []},
        {**good, "entities": [{"start": 0, "end": 19, "label": "PER"}], "relations": []},
        {**good, "relations": [{"head": 0, "tail": 2, "label": "met"}]},
        {**good, "relations": [{"head": 0, "tail": 1, "label": None}]},
    ]
    corpus = read_corpus("TRAIN", put_rows(tmp_path / "rows.parquet", rows))
    assert len(corpus.rows) == 1
    assert corpus.skipped == {
        "empty text": 1,
        "offset out of range": 3,
        "relation to no entity": 1,
        "relation without a label": 1,
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"text": ["x"]}), "no column entities"),
        (pa.table({"text": ["x"], "entities": ["x"]}), "'entities' is string"),
        (pa.table({"text": ["x"], "entities": [[{"start": 0}]]}), "list<struct<start, end"),
        (pa.table({"text": ["x"], "entities": [[{"start": 0.5, "end": 1.5}]]}), "list<struct<start, end"),
        (pa.table({"text": ["  "], "entities": [[]]}), "no usable row \\(empty text: 1\\)"),
        (
            pa.table({"text": pa.array([], pa.string()), "entities": pa.array([], pa.null())}),
            "files are empty",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, table: pa.Table, message: str) -> None:
    """Missing columns, other types and no usable row: an error that names file and cause."""
    pq.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(InputError, match=message):
        read_corpus("TRAIN", str(tmp_path / "bad.parquet"))


def test_no_file_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    """The message calls the argument by its name."""
    with pytest.raises(InputError, match="^DEV .* does not exist"):
        read_corpus("DEV", str(tmp_path / "none.parquet"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"^TRAIN .*broken\.parquet cannot be read"):
        read_corpus("TRAIN", str(tmp_path))


def test_licences_come_from_a_column_or_a_file(tmp_path: Path) -> None:
    """The card names what the data says of itself."""
    rows = annotated_rows(2)
    put_rows(tmp_path / "a" / "one.parquet", [{**row, "license": "CC0"} for row in rows])
    put_rows(tmp_path / "b" / "two.parquet", rows)
    (tmp_path / "b" / "LICENSE").write_text("\nMIT License\n\nPermission…\n")
    put_rows(tmp_path / "c" / "three.parquet", rows)
    corpus = read_corpus("TRAIN", str(tmp_path))
    assert [(item.name, item.licence) for item in corpus.files] == [
        ("a/one.parquet", "CC0"),
        ("b/two.parquet", "MIT License"),
        ("c/three.parquet", ""),
    ]


def test_label_sets_come_from_the_data(tmp_path: Path) -> None:
    """NIL and no_relation are no labels of their own; several labels of a span or pair make the head multi."""
    plain = rows_of(
        tmp_path,
        [sentence([(*ADA, "PER"), (*BO, "NIL"), (*ROME, "LOC")], [(0, 2, "in"), (2, 0, "no_relation")])],
    )
    assert read_labels("ner", plain, NER).spec == HeadSpec("span", ("NIL", "LOC", "PER"), False, "NIL")
    assert read_labels("types", plain, NER).spec == HeadSpec("entity", ("LOC", "PER"), False, None)
    related = read_labels("relations", plain, NER).spec
    assert related == HeadSpec("pair", ("no_relation", "in"), False, "no_relation")
    several = rows_of(
        tmp_path,
        [sentence([(*ADA, "PER"), (*ADA, "poet"), (*ROME, "LOC")], [(0, 2, "in"), (0, 2, "born")])],
    )
    assert read_labels("types", several, NER).spec.multi_label
    assert read_labels("relations", several, NER).spec == HeadSpec("pair", ("born", "in"), True, None)
    forced = FinetuneConfig(heads=("types",), multi_label="no")
    assert not read_labels("types", several, forced).spec.multi_label
    with pytest.raises(InputError, match="no example of the head ner"):
        read_labels("ner", rows_of(tmp_path, [sentence([(*ADA, None)], [])]), NER)


def test_pairs_without_relation_are_all_or_the_given_ones(tmp_path: Path) -> None:
    """Where the data says `no_relation`, only its pairs are examples; else every ordered pair is."""
    entities: list[tuple[int, int, str | None]] = [(*ADA, "PER"), (*BO, "PER"), (*ROME, "LOC")]
    told = rows_of(tmp_path, [sentence(entities, [(0, 2, "in"), (1, 2, "no_relation")])])
    assert gives_unrelated(told, NER)
    spec = read_labels("relations", told, NER).spec
    pairs = relation_pairs(told, spec, given=True)
    assert [(pair.head, pair.tail, set(pair.labels)) for pair in pairs] == [(0, 2, {"in"}), (1, 2, set())]
    silent = rows_of(tmp_path, [sentence(entities, [(0, 2, "in")])])
    assert not gives_unrelated(silent, NER)
    assert len(relation_pairs(silent, spec, given=False)) == 6


def test_balanced_weights_favour_rare_labels(tmp_path: Path) -> None:
    """An example of a label that is three times as rare counts three times as much."""
    rows = [sentence([(*ADA, "PER"), (*BO, "PER"), (*ROME, "LOC")], [])] * 2
    labels = read_labels("ner", rows_of(tmp_path, [*rows, sentence([(*ADA, "PER"), (*BO, "PER")], [])]), NER)
    none, place, person = labels.weights().tolist()
    assert none == 1
    assert place == pytest.approx(3 * person)


def test_the_longest_span_covers_the_mentions(tmp_path: Path) -> None:
    """In words, not in characters."""
    assert longest_span(rows_of(tmp_path, [sentence([(*ADA, "PER"), (0, 10, "X")], [])])) == 3


# Batches


class Numbers:
    """Examples that are their number."""

    name = "numbers"

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def at(self, number: int, rng: Generator, share: float) -> Example:  # noqa: ARG002 - a protocol's
        """A window of a few tokens; its target is the number."""
        size = 3 + int(rng.integers(4))
        window = Window(np.zeros(size, np.int32), np.zeros(1, np.int32), np.zeros((1, 2), np.int32))
        return Example(window, np.array([number]))


def drawn(source: PassSource, batches: int) -> list[list[int]]:
    """The numbers of the next batches."""
    return [[int(example.targets[0]) for example in source.next()] for _ in range(batches)]


@given(count=st.integers(3, 60), size=st.integers(1, 3), pool=st.integers(1, 20))
def test_a_pass_shows_every_example_once(count: int, size: int, pool: int) -> None:
    """Over all processes together, whatever the pools."""
    seen: list[int] = []
    for rank in range(size):
        source = PassSource(Numbers(count), 40, pool, 7, rank=rank, size=size)
        own = len(range(rank, count, size))
        found: list[int] = []
        while len(found) < own:
            found += drawn(source, 1)[0]
        seen += found[:own]
    assert sorted(seen) == list(range(count))


@given(before=st.integers(0, 30), after=st.integers(1, 12))
def test_a_source_goes_on_where_its_state_was_taken(before: int, after: int) -> None:
    """The state is two numbers; passes differ in their order."""
    source = PassSource(Numbers(25), 40, 10, 3)
    drawn(source, before)
    state = json.loads(json.dumps(source.state()))
    expected = drawn(source, after)
    resumed = PassSource(Numbers(25), 40, 10, 3)
    resumed.restore(state)
    assert drawn(resumed, after) == expected


def test_one_process_is_a_group() -> None:
    """Nothing is exchanged, and the gradients stay."""
    group = Group()
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 3.0)
    group.average_gradients([parameter])
    assert parameter.grad.tolist() == [3, 3]
    assert group.leads
    assert group.gather("x") == ["x"]
    assert group.agree(True)


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
    with pytest.raises(CheckpointError, match="no .*LayerNorm.* among the weights"):
        prepare(str(other), tmp_path, 0)


# Scores


def outputs(logits: list[list[float]], gold: list[list[int]], missed: int = 0) -> Outputs:
    """At places of rows of their own."""
    names = tuple(f"row {number}" for number in range(len(logits)))
    return Outputs(np.array(logits, np.float32), np.array(gold, bool), names, missed)


def test_scores_count_what_inference_would_write() -> None:
    """One label: the best one unless it is none. Places that nobody reached count as misses."""
    spec = HeadSpec("span", ("NIL", "PER", "LOC"), none_label="NIL")
    found = outputs([[0, 2, 1], [0, 1, 2], [3, 1, 0]], [[0, 1, 0], [0, 1, 0], [0, 0, 1]], missed=1)
    scores = score(found, labels_of(spec))
    assert (scores.precision, scores.recall, scores.support) == (1 / 2, 1 / 4, 4)
    assert scores.f1 == pytest.approx(1 / 3)


@given(
    logits=st.lists(st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3), min_size=1, max_size=8),
    multi=st.booleans(),
    threshold=st.floats(0.05, 0.95),
    temperature=st.floats(0.2, 5),
)
def test_what_is_written_is_what_labels_decode(
    logits: list[list[float]], multi: bool, threshold: float, temperature: float
) -> None:
    """The scores see exactly the decisions of the heads."""
    labels = Labels(("none", "a", "b"), -1 if multi else 0, multi, temperature, threshold)
    places, numbers = written(outputs(logits, [[0, 0, 0]] * len(logits)), labels)
    for place, row in enumerate(logits):
        decoded = {label for label, _ in labels.decode(np.array(row, np.float32))}
        assert {labels.names[number] for number in numbers[places == place]} == decoded


def test_a_threshold_reaches_its_precision() -> None:
    """Without a floor the best F1 wins; with one, the best F1 among thresholds that are precise enough."""
    spec = HeadSpec("pair", ("a",), multi_label=True)
    found = outputs([[4], [3], [2], [1], [-3]], [[1], [0], [1], [1], [0]])
    free = threshold_of(found, spec, None)
    strict = threshold_of(found, spec, 0.9)
    assert free is not None
    assert strict is not None
    assert score(found, labels_of(spec, threshold=free)).recall == 1
    assert score(found, labels_of(spec, threshold=strict)).precision == 1
    assert threshold_of(found, HeadSpec("pair", ("a", "b")), None) is None


def test_calibration_changes_scores_and_no_decision() -> None:
    """The threshold moves with the temperature, so that the same labels are written."""
    rng = np.random.default_rng(0)
    gold = rng.random((400, 3)) < 0.3
    logits = (3 * (2 * gold - 1) + 4 * rng.normal(size=gold.shape)).astype(np.float32)
    spec = HeadSpec("pair", ("a", "b", "c"), multi_label=True)
    found = outputs(logits.tolist(), gold.tolist())
    settings = calibrated(found, spec, None, is_typing=False)
    raw = labels_of(spec, threshold=threshold_of(found, spec, None))
    after = labels_of(spec, settings.temperature, settings.threshold)
    assert settings.outcome == "fitted"
    assert settings.temperature > 1.2
    assert settings.ece_after < settings.ece_before
    for one, other in zip(written(found, raw), written(found, after), strict=True):
        assert np.array_equal(one, other)


# Plans and runs


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A tiny LUKE checkpoint."""
    return str(make(tmp_path / "base", Recipe()))


def trained(tmp_path: Path, base: str, heads: tuple[Any, ...], rows: list[dict[str, Any]]) -> Path:
    """The model folder of a run of a few steps in this process, with dev."""
    config = FinetuneConfig(
        heads=heads, base=base, steps=3, batch_tokens=128, evaluations=1, class_weights="balanced",
        gradient_checkpointing=True,
    )  # fmt: skip
    train = put_rows(tmp_path / "train.parquet", rows)
    dev = put_rows(tmp_path / "dev.parquet", rows[:6])
    make_plan(train, dev, config, tmp_path / "model")
    run = run_folder(tmp_path / "model")
    Worker(run, Group(), "cpu").train()
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
    _, told = LukeModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
    assert not any(told.values())
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


def test_dev_labels_that_train_lacks_are_reported(tmp_path: Path, base: str) -> None:
    """They count as misses."""
    train = put_rows(tmp_path / "train.parquet", annotated_rows(4))
    dev = put_rows(tmp_path / "dev.parquet", [sentence([(*ADA, "PER"), (0, 10, "GPE")], [])])
    plan, finished = make_plan(train, dev, NER.model_copy(update={"base": base}), tmp_path / "model")
    assert not finished
    assert "DEV: ner labels that TRAIN lacks count as misses: GPE" in plan.notes
    assert "DEV: 1 mentions overlap others; flat decoding finds one of each" in plan.notes
    assert Plan.read(run_folder(tmp_path / "model")) == plan


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
    make_plan(train, None, NER.model_copy(update={"base": base, "max_tokens": 16}), tmp_path / "model")
    with pytest.raises(InputError, match=r"ner: window too long.*--max-tokens"):
        Worker(run_folder(tmp_path / "model"), Group(), "cpu")


def test_a_curve_keeps_the_later_of_two_lines(tmp_path: Path) -> None:
    """A killed run repeats steps, and may leave half a line."""
    lines = [
        {"step": 1, "losses": {"ner": 2}},
        {"step": 2, "losses": {"ner": 1}},
        {"step": 2, "dev": {"ner": 0}},
    ]
    again = {"step": 2, "losses": {"ner": 1.5}}
    content = "\n".join([*map(json.dumps, lines), '{"step": 3, "los', json.dumps(again)]) + "\n"
    (tmp_path / "curve.jsonl").write_text(content)
    assert read_curve(tmp_path / "curve.jsonl") == [lines[0], again, lines[2]]
    assert read_curve(tmp_path / "none") == []
    assert not draw([], tmp_path)


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
    assert (
        run(["models", "convert", str(multi_head_folder), str(tmp_path / "one"), "--head", "relations"]) == 0
    )
    model, told = LukeForEntityPairClassification.from_pretrained(tmp_path / "one", output_loading_info=True)
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
    assert Counter(FinetuneConfig.model_fields) - Counter(checked(heads=("ner",)).identity) == {
        "checkpoint_seconds": 1
    }
