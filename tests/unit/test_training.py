"""Training on a tiny random encoder and a few sentences written for the project."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, LukeConfig, LukeModel

from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import CheckpointError, InputError
from luke_batch.heads.ner import choose
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.fit import check_fit
from luke_batch.model.files.weights import ENTITY_TABLE, encoder_state, head_state
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.model.task import Task
from luke_batch.training.batches import NumberedExamples, PooledBatches, cut_into_batches
from luke_batch.training.corpus import Row
from luke_batch.training.encoder import EncoderConfig, EncoderInput, LukeEncoder
from luke_batch.training.examples import (
    MarkedExamples,
    NerExamples,
    SpanSampling,
    choose_negatives,
    mention_places,
    pair_places,
)
from luke_batch.training.loop import LoopConfig, Trainer, rate_share
from luke_batch.training.model import HeadSpec, MultiTaskModel
from luke_batch.training.outputs import HeadOutputs, ner_outputs
from luke_batch.training.scoring import labels_of, score, threshold_of
from luke_batch.training.start import EncoderBase, load_base, to_luke
from recipes.entity_head import EntityHeadConfig
from recipes.entity_head import train as train_entities
from recipes.export import Card, add_entities, export, load_head_state, rounded_words
from recipes.rows import entity_labels, read_rows
from recipes.vocabulary import ADDED_PIECES, CONTROL_PIECES, prune

HIDDEN = 32
NER_LABELS = ("NIL", "PER", "LOC")
SENTENCES: list[dict[str, Any]] = [
    {
        "id": f"{place}-{number}",
        "lang": "en",
        "source": "test",
        "text": f"{person} lives in {place} .",
        "entities": [
            {"start": 0, "end": len(person), "label": "PER"},
            {"start": len(person) + 10, "end": len(person) + 10 + len(place), "label": "LOC"},
        ],
        "relations": [{"head": 0, "tail": 1, "label": "residence"}],
    }
    for number, person in enumerate(("Ada", "Bo", "Chen Li"))
    for place in ("Rome", "Oslo", "Lima")
]
PIECES = ["▁lives", "▁in", "▁Ada", "▁Bo", "▁Rome", "▁Oslo", "▁Lima", "▁", *"ACBLROabdehilmnosv.<>/"]


def tokenizer_json() -> dict[str, Any]:
    """A Unigram tokenizer in the layout of XLM-R's."""
    vocabulary: list[list[Any]] = [[piece, 0.0] for piece in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary += [[piece, -float(number)] for number, piece in enumerate([*PIECES, "▁never", "#", "@"], 1)]
    metaspace = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": metaspace,
        "post_processor": None,
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": [*vocabulary, ["<mask>", 0.0]]},
    }


def bert() -> tuple[BertModel, EncoderBase]:
    """A tiny BERT with random weights, and the same as a base."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer_json()["model"]["vocab"]),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    state = {name: item.detach().clone() for name, item in model.state_dict().items()}
    return model, EncoderBase(config.to_dict(), state)


def words(row: Row) -> IntArray:
    """Runs of up to three words between spaces."""
    starts = [0, *(place + 1 for place, letter in enumerate(row.text) if letter == " ")]
    ends = [*(start - 1 for start in starts[1:]), len(row.text)]
    spans = [(start, end) for i, start in enumerate(starts) for end in ends[i : i + 3]]
    return np.array(spans, np.int32)


@dataclass
class Setting:
    """An untrained model with its data."""

    model: MultiTaskModel
    config: dict[str, Any]
    tokenizer: dict[str, Any]
    builder: InputBuilder
    rows: list[Row]

    def trainer(self, seconds: float = 40.0, clock: Callable[[], float] | None = None) -> Trainer:
        """A trainer whose clock moves by one second a step."""
        ticks: Iterator[float] = iter(np.arange(1e6).tolist())
        skipped: Counter[str] = Counter()
        specs = self.model.specs
        mentions = mention_places(self.rows, together=False)
        pairs = [pair for row in self.rows for pair in pair_places(row)]
        types, relations = specs["types"].labels, specs["relations"].labels
        tasks: list[NumberedExamples] = [
            NerExamples(self.rows, NER_LABELS, self.builder, words, skipped),
            MarkedExamples("types", mentions, types, self.builder, skipped, multi_label=False),
            MarkedExamples("relations", pairs, relations, self.builder, skipped, multi_label=True),
        ]
        sources = {task.name: PooledBatches(task, 256, 32, seed) for seed, task in enumerate(tasks)}
        config = LoopConfig(seconds, encoder_rate=2e-3, head_rate=1e-2, checkpoint_every=1e9)
        trainer = Trainer(
            self.model, sources, dict.fromkeys(sources, 1.0), 1, config, clock=clock or (lambda: next(ticks))
        )
        trainer.start()
        return trainer


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as Parquet."""
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """A model with three heads over the tiny encoder, and nine sentences."""
    rows = read_rows([write(tmp_path / "rows.parquet", SENTENCES)], Counter())
    vocabulary = prune(tokenizer_json(), (row.text for row in rows), 36)
    base = bert()[1]
    words = base.state["embeddings.word_embeddings.weight"][torch.tensor(vocabulary.sources)]
    luke = to_luke(base, rounded_words(words))
    heads = {
        "ner": HeadSpec("span", NER_LABELS, none_label="NIL"),
        "types": HeadSpec("entity", tuple(entity_labels(rows))),
        "relations": HeadSpec("pair", ("residence",), multi_label=True),
    }
    model = MultiTaskModel(EncoderConfig.from_luke(luke.config), heads)
    model.encoder.load_state_dict(luke.state)
    folder = tmp_path / "draft"
    export(folder, model, luke.config, vocabulary.tokenizer, Card("draft", {}, "# Draft\n"))
    builder = InputBuilder(Tokenizer.load(folder))
    return Setting(model, luke.config, vocabulary.tokenizer, builder, rows)


def test_another_activation_is_refused() -> None:
    """The encoder computes GELU, whatever a configuration says."""
    with pytest.raises(CheckpointError, match="hidden_act 'relu'"):
        EncoderConfig.from_luke(LukeConfig(hidden_act="relu").to_dict())


def test_a_pruned_vocabulary_keeps_letters_and_what_is_used(setting: Setting) -> None:
    """Special ids are fixed, letters stay, an unused piece goes; special tokens in text are plain text."""
    pieces = [piece for piece, _ in setting.tokenizer["model"]["vocab"]]
    assert tuple(pieces[:4]) == CONTROL_PIECES
    assert tuple(pieces[-3:]) == ADDED_PIECES
    assert {piece for piece in PIECES if len(piece) == 1} <= set(pieces)
    assert len(pieces) == 36
    assert "▁never" not in pieces
    spelt = setting.builder.tokenize("<s>", np.zeros((0, 2), np.int32)).ids
    assert [pieces[number] for number in spelt] == ["▁", "<", "s", ">"]


def test_a_piece_has_the_mark_of_a_word_only_where_a_word_begins(setting: Setting) -> None:
    """A cut inside a word adds no "▁"; the first word of a text has one, like any other."""
    pieces = [piece for piece, _ in setting.tokenizer["model"]["vocab"]]
    tokens = setting.builder.tokenize("Ada lives", np.array([[0, 3], [5, 9]], np.int32))
    shown = [pieces[number] for number in tokens.ids]
    assert shown == ["▁Ada", "▁", "l", "i", "v", "e", "s"]
    assert tokens.spans.tolist() == [[0, 1], [3, 7]]


def test_without_entities_luke_equals_its_base() -> None:
    """The mapping changes nothing in the words as long as no entity takes part."""
    model, base = bert()
    rows = base.state["embeddings.word_embeddings.weight"]
    luke = to_luke(base, rows)
    encoder = LukeEncoder(EncoderConfig.from_luke(luke.config))
    encoder.load_state_dict(luke.state)
    ids = torch.randint(4, len(rows), (2, 11))
    nothing = torch.zeros(2, 0, dtype=torch.int64)
    with torch.inference_mode():
        expected = model(input_ids=ids).last_hidden_state
        found, _ = encoder(EncoderInput(ids, torch.tensor([11, 11]), nothing, torch.zeros(2, 0, 2).long()))
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("aware", [True, False])
def test_the_encoder_equals_transformers(aware: bool) -> None:
    """With padding, long mentions, narrow entity rows, and both kinds of attention."""
    torch.manual_seed(1)
    config = LukeConfig(
        vocab_size=50,
        entity_vocab_size=4,
        hidden_size=HIDDEN,
        entity_emb_size=16 if aware else HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=80,
        type_vocab_size=1,
        pad_token_id=1,
        use_entity_aware_attention=aware,
    )
    reference = LukeModel(config, add_pooling_layer=False).eval()
    encoder = LukeEncoder(EncoderConfig.from_luke(config.to_dict()))
    encoder.load_state_dict(reference.state_dict(), strict=aware)
    lengths, spans = torch.tensor([60, 41]), torch.tensor([[[1, 3], [2, 40]], [[5, 6], [0, 0]]])
    ids = torch.randint(4, 50, (2, 60))
    entities = torch.tensor([[2, 3], [2, 0]])
    places = torch.full((2, 2, 30), -1)
    for row, entity in ((0, 0), (0, 1), (1, 0)):
        start, end = spans[row, entity].tolist()
        count = min(end - start, 30)
        places[row, entity, :count] = torch.arange(start, start + count)
    mask = torch.arange(60) < lengths[:, None]
    with torch.inference_mode():
        expected = reference(
            input_ids=ids,
            attention_mask=mask.long(),
            entity_ids=entities,
            entity_attention_mask=(spans[..., 1] > 0).long(),
            entity_position_ids=places,
        )
        found, mentioned = encoder(EncoderInput(ids, lengths, entities, spans))
    assert torch.allclose(found[mask], expected.last_hidden_state[mask], atol=1e-4)
    real = spans[..., 1] > 0
    assert torch.allclose(mentioned[real], expected.entity_last_hidden_state[real], atol=1e-4)


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    """Only encoders whose parameters have BERT's shape can become LUKE."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(CheckpointError, match="gpt2"):
        load_base(tmp_path)


def test_the_loss_falls_until_the_time_is_spent(setting: Setting) -> None:
    """All three heads learn a few sentences by heart; every step is watched."""
    trainer = setting.trainer(seconds=100)
    first = [trainer.step() for _ in range(9)]
    watched: list[int] = []
    trainer.run(watch=lambda: watched.append(trainer.progress.step))
    assert np.mean([trainer.step() for _ in range(9)]) < 0.3 * np.mean(first)
    assert trainer.progress.examples.keys() == {"ner", "types", "relations"}
    assert watched == list(range(10, 110))
    found = ner_outputs(setting.model, setting.rows, setting.builder, words)
    assert score(found, labels_of(setting.model.specs["ner"])).f1 > 0.8


def test_a_resumed_run_ends_as_one_that_was_never_killed(setting: Setting, tmp_path: Path) -> None:
    """The checkpoint holds weights, optimizer, clock, generators and the place in the data."""
    state = {name: item.clone() for name, item in setting.model.state_dict().items()}
    trainer = setting.trainer()
    for _ in range(7):
        trainer.step()
    trainer.progress.elapsed = 7.0
    trainer.save(tmp_path / "checkpoint.pt")
    losses = [trainer.step() for _ in range(6)]
    expected = {name: item.clone() for name, item in setting.model.state_dict().items()}

    setting.model.load_state_dict(state)
    resumed = setting.trainer()
    resumed.resume(tmp_path / "checkpoint.pt")
    assert (resumed.progress.step, resumed.progress.elapsed) == (7, 7.0)
    assert [resumed.step() for _ in range(6)] == losses
    assert all(torch.equal(item, expected[name]) for name, item in setting.model.state_dict().items())

    setting.model.encoder.embeddings.word_embeddings.weight[3] += 9
    with pytest.raises(ValueError, match="another vocabulary"):
        resumed.resume(tmp_path / "checkpoint.pt")


def test_the_time_of_a_killed_run_counts(setting: Setting) -> None:
    """A budget of 40 seconds, of which 30 are gone, leaves ten."""
    trainer = setting.trainer(seconds=40)
    trainer.progress.elapsed = 30.0
    trainer.run()
    assert trainer.progress.step == 10


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    """Full after the warm-up, nothing at the end, never negative."""
    assert rate_share(0.04, 0.04) == pytest.approx(1)
    assert 0 < rate_share(0.0, 0.04) < 0.1
    assert rate_share(1.0, 0.04) == rate_share(1.5, 0.04) == 0


def test_the_loop_needs_neither_a_cluster_nor_data_files() -> None:
    """It runs where torch, NumPy, tokenizers and safetensors are, and no other library of ours."""
    code = (
        "import sys, luke_batch.training.loop\n"
        "found = {'ray', 'pyarrow', 'pydantic', 'transformers', 'huggingface_hub'} & set(sys.modules)\n"
        "if found: sys.exit(str(found))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_export_loads_and_frozen_words_are_stored_exactly(setting: Setting, tmp_path: Path) -> None:
    """Our loader and transformers' class take it; labels and thresholds are there."""
    folder = tmp_path / "model"
    for _ in range(2):  # the second replaces the first
        card = Card("tiny", {"relations": {"threshold": 0.3}}, "# Tiny\n")
        export(folder, setting.model, setting.config, setting.tokenizer, card)
    checkpoint = resolve(str(folder))
    assert checkpoint.heads["ner"].labels == NER_LABELS
    assert (checkpoint.heads["relations"].threshold, checkpoint.context) == (0.3, "none")
    state = encoder_state(checkpoint)
    trained = setting.model.encoder.state_dict()
    assert state.keys() == trained.keys()
    for name, item in trained.items():
        exact = name == "embeddings.word_embeddings.weight"
        assert torch.allclose(state[name], item, atol=1e-7 if exact else 1e-3, rtol=1e-6 if exact else 1e-3)
    assert head_state(checkpoint, "relations")[1] is None
    config = LukeConfig.from_pretrained(folder)
    missing, unexpected = LukeModel(config, add_pooling_layer=False).load_state_dict(state, strict=False)
    assert not missing
    assert not unexpected
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(".")) == []


def test_titles_are_added_to_an_export(setting: Setting, tmp_path: Path) -> None:
    """Rows, vocabulary and head fit; again, they are replaced; what else the folder holds stays."""
    folder = tmp_path / "model"
    export(folder, setting.model, setting.config, setting.tokenizer, Card("tiny", {}, "# Tiny\n"))
    before = encoder_state(resolve(str(folder)))
    for titles in (["Rome", "Oslo", "Lima"], ["Łódź", "Rome"]):
        rows = torch.randn(len(titles), HIDDEN, generator=torch.Generator().manual_seed(1))
        head, _ = train_entities(rows, torch.arange(len(titles)), len(titles), EntityHeadConfig(steps=2))
        add_entities(folder, titles, rows, head.state_dict())
    checkpoint, tokenizer = resolve(str(folder)), Tokenizer.load(folder)
    check_fit(checkpoint, tokenizer, [Task.NER, Task.TYPES, Task.RELATIONS])
    assert [tokenizer.entity_vocab.get(title) for title in ("Łódź", "Rome", "Oslo")] == [4, 5, None]
    assert torch.allclose(encoder_state(checkpoint)[ENTITY_TABLE][4:], rows, atol=1e-3)
    after = encoder_state(resolve(str(folder)))
    assert after.keys() == before.keys()
    for name, item in before.items():
        assert torch.equal(item, after[name][:4] if name == ENTITY_TABLE else after[name])
    stored = load_file(folder / "heads.safetensors")
    assert stored["entity_predictions.bias"].shape == (6,)
    assert load_head_state(folder).keys() == setting.model.heads.state_dict().keys()


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    """Offsets out of range, reversed spans, no text, a relation to no entity: each with its reason."""
    good = SENTENCES[0]
    outside = [{"start": 0, "end": 99, "label": "PER"}]
    reversed_span = [{"start": 3, "end": 1, "label": "PER"}]
    rows = [
        good,
        {**good, "entities": outside, "relations": []},
        {**good, "entities": reversed_span, "relations": []},
        {**good, "text": " ", "entities": [], "relations": []},
        {**good, "relations": [{"head": 0, "tail": 7, "label": "residence"}]},
    ]
    skipped: Counter[str] = Counter()
    assert len(read_rows([write(tmp_path / "bad.parquet", rows)], skipped)) == 1
    assert skipped == {"offset out of range": 2, "empty text": 1, "relation to no entity": 1}
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "plain.parquet")
    with pytest.raises(InputError, match="entities"):
        read_rows([tmp_path / "plain.parquet"], skipped)


def test_examples_that_are_too_long_are_counted(setting: Setting) -> None:
    """A task whose every row is too long says so instead of drawing for ever."""
    skipped: Counter[str] = Counter()
    places = mention_places(setting.rows, together=False)
    task = MarkedExamples("types", places, ("LOC", "PER"), setting.builder, skipped, multi_label=False, max_tokens=3)
    with pytest.raises(ValueError, match="types: no row"):
        PooledBatches(task, 64, 4, 0).next()
    assert skipped["types: window too long"] > 0


def test_negatives_are_varied_and_batches_keep_their_bound(setting: Setting) -> None:
    """Sampled spans are distinct; no batch exceeds its tokens with its padding."""
    row = setting.rows[0]
    spans = words(row)[2:]
    rng = np.random.default_rng(0)
    chosen = choose_negatives(row.text, spans, spans[:1], 5, SpanSampling(2, 0.2, 4), rng)
    assert 0 < len(chosen) < len(spans)
    assert len(set(chosen.tolist())) == len(chosen)
    task = NerExamples(setting.rows, NER_LABELS, setting.builder, words, Counter())
    examples = [example for example in (task.at(number % 9, rng, 1.0) for number in range(40)) if example is not None]
    batches = cut_into_batches(examples, 200)
    assert sum(map(len, batches)) == len(examples)
    for batch in batches:
        width = max(item.words for item in batch) + max(item.entities for item in batch)
        assert len(batch) == 1 or width * len(batch) <= 200


def test_decoding_and_threshold() -> None:
    """Overlaps go to the better span; the threshold is where F1 is best."""
    spans = np.array([[0, 3], [0, 8], [9, 12]], np.int32)
    logits = np.array([[0, 3, 0], [0, 0, 5], [2, 1, 0]], np.float32)
    assert choose(spans, logits, 0, np.zeros(3, bool), nested=False).tolist() == [1]
    scores = np.array([[2.0], [1.0], [-1.0], [-2.0]], np.float32)
    labels = labels_of(HeadSpec("pair", ("a",), multi_label=True))
    found = HeadOutputs(scores, np.array([[1], [1], [0], [0]], bool), ("a", "b", "c", "d"))
    threshold = threshold_of(found, labels, None)
    assert labels.probabilities(scores[2:3]) < threshold < labels.probabilities(scores[1:2])
    assert score(found, replace(labels, threshold=threshold)).f1 == 1
