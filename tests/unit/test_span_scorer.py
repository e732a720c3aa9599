"""The span scorer: its net, its training, and which spans the ner head then looks at."""

from collections import Counter
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from luke_batch import Annotator, JobConfig
from luke_batch.annotator import ModelStage, model_stages
from luke_batch.arrays import FloatArray, IntArray
from luke_batch.config import ModelConfig
from luke_batch.errors import CheckpointError
from luke_batch.model.checkpoint import Checkpoint, resolve
from luke_batch.model.engine import Engine, Task, load_engine
from luke_batch.model.span_scorer import SpanScorer, SpanScorerNet, word_states
from luke_batch.model.weights import Table, encoder_tables
from luke_batch.model.windows import InputBuilder, Window
from luke_batch.preparation import Preparation
from luke_batch.text.spans import all_spans
from luke_batch.text.words import words
from luke_batch.training.data import Entity, Row
from luke_batch.training.span_scorer import (
    ScorerConfig,
    least_bound,
    sentences,
    span_least,
    span_scores,
    train,
)
from tests.checkpoints import TOKENIZERS, add_span_scorer, make_multi_head

TEXT = "Ada Lovelace met Charles Babbage in London. He lived there, they say."


def window(ids: list[int]) -> Window:
    """A window of words alone."""
    return Window(np.array(ids, np.int32), np.zeros(0, np.int32), np.zeros((0, 2), np.int32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a scorer."""
    made = make_multi_head(tmp_path_factory.mktemp("scorer") / "model")
    return add_span_scorer(made, 0.5)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 200), min_size=1, max_size=30), min_size=1, max_size=6))
def test_a_window_is_scored_alike_alone_and_in_a_batch(folder: Path, rows: list[list[int]]) -> None:
    """Padding never reaches the words beside it."""
    scorer = SpanScorer(resolve(str(folder)))
    together = scorer([window(ids) for ids in rows])
    for ids, scores in zip(rows, together, strict=True):
        assert scores.shape == (len(ids), 2)
        np.testing.assert_allclose(scores, scorer([window(ids)])[0], atol=1e-5)


def test_the_scorer_is_a_part_of_the_checkpoint(tmp_path: Path) -> None:
    """It changes the content hash, and a folder that lost it, or has another model's, is refused by name."""
    plain = make_multi_head(tmp_path / "plain")
    before = resolve(str(plain)).weights_hash
    add_span_scorer(plain, 0.5)
    assert resolve(str(plain)).weights_hash != before
    (plain / "span_scorer.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"span_scorer\.safetensors: no span scorer of this model"):
        SpanScorer(resolve(str(plain)))
    (plain / "span_scorer.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no span_scorer\.safetensors"):
        resolve(str(plain))


def mentions(path: Path, spans: Any, decode: str = "nested") -> tuple[list[Any], dict[str, int], int]:
    """Spans of the mentions of TEXT, what was dropped, and how many spans were scored."""
    job = JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "models": {"main": {"path": str(path)}},
            "heads": [{"head": "ner", "spans": spans, "decode": decode}],
        }
    )
    rows = pa.table({"text": [TEXT], "given": [[{"start": 44, "end": 46}]]})
    row = Annotator.from_config(job).annotate(rows).to_pylist()[0]
    dropped = {item["reason"]: item["count"] for item in row["coverage"]["dropped"]}
    return [(m["start"], m["end"]) for m in row["mentions"]], dropped, row["coverage"]["spans_scored"]


def test_a_threshold_that_nothing_fails_changes_nothing(tmp_path: Path) -> None:
    """Probabilities are above the least one: the same mentions with and without a scorer."""
    plain = make_multi_head(tmp_path / "plain")
    expected = mentions(plain, "auto")
    assert mentions(add_span_scorer(plain, 1e-9), "auto") == expected


def test_auto_looks_at_the_spans_that_may_be_mentions(folder: Path, tmp_path: Path) -> None:
    """Exactly those whose first and last token pass the threshold, and coverage counts the others."""
    checkpoint = resolve(str(folder))
    builder = InputBuilder(TOKENIZERS["luke"], 512)
    whole = np.array([[0, 43], [44, len(TEXT)]], np.int32)
    spans = all_spans(words(TEXT, None), whole, 6)
    wanted = 0
    for start, end in whole:
        inside = spans[(spans[:, 0] >= start) & (spans[:, 1] <= end)] - start
        tokens = builder.tokenize(TEXT[start:end], inside)
        scores = SpanScorer(checkpoint)([builder.text_window(tokens.ids)])[0]
        wanted += int((span_least(scores, tokens.spans + 1) >= 0.5).sum())
    _, every, scored_without = mentions(make_multi_head(tmp_path / "plain"), "auto")
    _, dropped, scored = mentions(folder, "auto")
    assert dropped["unlikely_span"] == scored_without - scored > 0
    assert scored <= wanted  # rules of `auto` spare some of `all_spans` before
    assert "unlikely_span" not in every


def test_other_proposers_are_never_filtered(folder: Path, tmp_path: Path) -> None:
    """A given mention is scored whatever the scorer says, and `all` scores every span."""
    strict = add_span_scorer(make_multi_head(tmp_path / "strict"), 0.999999)
    found, dropped, scored = mentions(strict, ["auto", "given"])
    assert (44, 46) in found
    assert scored == 1
    assert dropped["unlikely_span"] > 0
    plain = mentions(make_multi_head(tmp_path / "plain"), "all")
    assert mentions(strict, "all") == plain  # nothing is likely: all of them share windows
    assert mentions(folder, "all")[1:] == plain[1:]
    assert mentions(folder, ["all", "auto"]) == mentions(folder, "all")


class Recorder:
    """An engine that keeps the windows of spans that it is asked for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.windows: list[Window] = []

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        """As the engine."""
        self.windows += windows if task is Task.SPANS else []
        return self.engine.run(task, windows)


def asked(path: Path, spans: Any, rows: pa.Table) -> tuple[Counter[Any], list[Any]]:
    """The windows that ner asks for, as token ids and the token ranges of the entities; and the coverage."""
    job = JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "models": {"main": {"path": str(path)}},
            "heads": [{"head": "ner", "spans": spans}],
        }
    )
    recorders: list[Recorder] = []

    def load(model: ModelConfig, checkpoint: Checkpoint, tasks: Collection[Task], device: str) -> Engine:
        recorders.append(Recorder(load_engine(model, checkpoint, tasks, device)))
        return recorders[-1]

    annotated = ModelStage(job, model_stages(job)[0], "cpu", load)(Preparation(job)(rows))
    windows = Counter(
        (window.token_ids.tobytes(), tuple(map(tuple, window.entity_spans.tolist())))
        for window in recorders[0].windows
    )
    return windows, annotated["coverage"].to_pylist()


@settings(deadline=None, max_examples=10)
@given(
    st.lists(
        st.lists(st.sampled_from((*TEXT.split(), "(", '"', "東京", "...")), max_size=25).map(" ".join),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(([], ["given"])),
)
def test_all_shows_likely_spans_as_auto_does(folder: Path, texts: list[str], others: list[str]) -> None:
    """The windows of `auto` are windows of `all`, and every span is scored once or counted as dropped."""
    given = [[{"start": 0, "end": len(text.split()[0])}] if text else [] for text in texts]
    mention = pa.list_(pa.struct({"start": pa.int64(), "end": pa.int64()}))
    rows = pa.table({"text": texts, "given": pa.array(given, mention)})
    likely, _ = asked(folder, [*others, "auto"], rows)
    every, coverages = asked(folder, [*others, "all"], rows)
    assert likely <= every
    assert all(0 < len(spans) <= 128 for _, spans in every)
    for coverage in coverages:
        dropped = {item["reason"]: item["count"] for item in coverage["dropped"]}
        assert coverage["spans_scored"] + sum(dropped.values()) == coverage["spans_proposed"]
        assert "unlikely_span" not in dropped
    scored = sum(len(spans) * count for (_, spans), count in every.items())
    assert scored == sum(coverage["spans_scored"] for coverage in coverages)


def test_auto_finds_what_all_finds_with_the_embedded_model() -> None:
    """On every eighth document of the embedded corpus, in twelve languages: 98.5% of its mentions, and the
    scores of those that both find are the same.
    """
    table = pq.read_table(str(files("luke_batch.embedded") / "corpus.parquet"))
    rows = table.take(pa.array(range(0, table.num_rows, 8)))
    found: dict[str, dict[tuple[Any, ...], float]] = {}
    for name in ("auto", "all"):
        job = JobConfig.model_validate(
            {
                "input": {"lang_column": "lang"},
                "models": {"main": {"precision": "float32"}},
                "heads": [{"head": "ner", "spans": name}],
            }
        )
        found[name] = {
            (number, item["start"], item["end"], item["label"]): item["score"]
            for number, items in enumerate(Annotator.from_config(job).annotate(rows)["mentions"].to_pylist())
            for item in items
        }
    both = found["auto"].keys() & found["all"].keys()
    assert len(found["all"]) > 50
    assert len(both) >= 0.985 * len(found["all"])
    for mention in both:
        assert found["auto"][mention] == pytest.approx(found["all"][mention], abs=1e-4)


def propose(row: Row) -> IntArray:
    """All runs of up to three words."""
    return all_spans(words(row.text, row.lang), np.array([[0, len(row.text)]], np.int32), 3)


def corpus(names: tuple[str, ...]) -> list[Row]:
    """Sentences that say where somebody lives; the name is the mention."""
    return [
        Row(name, "en", "test", f"we saw {name} near the water today", (Entity(7, 7 + len(name), "PER"),), ())
        for name in names
    ]


def test_training_learns_where_mentions_begin_and_end() -> None:
    """On an easy rule the bounds of gold mentions stand out, of names not seen among the best; seeded."""
    builder = InputBuilder(TOKENIZERS["luke"], 512)
    generator = torch.Generator().manual_seed(0)
    table = Table(torch.randn(builder.tokenizer.text_size, 32, generator=generator), None)
    data = sentences(corpus(("Ada", "Bo", "Cem", "Ada Lo", "Dana")) * 20, ["PER"], builder, propose)
    config = ScorerConfig(width=16, epochs=20, batch_tokens=200)
    net = train(data, table, config)
    for sentence, scores in zip(data, span_scores(net, data, table), strict=True):
        assert span_least(scores, sentence.gold) > 0.9
        assert (span_least(scores, sentence.spans) > 0.9).sum() <= 3
    unseen = sentences(corpus(("Eve", "Fay Go")), ["PER"], builder, propose)
    for sentence, scores in zip(unseen, span_scores(net, unseen, table), strict=True):
        least = span_least(scores, sentence.spans)
        assert (least >= span_least(scores, sentence.gold)).sum() <= 2
    again = train(data, table, config)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_unknown_mentions_teach_nothing_and_foreign_labels_are_no_mentions() -> None:
    """Tokens of a mention of unknown label have no target; one of another label is background."""
    builder = InputBuilder(TOKENIZERS["luke"], 512)
    row = Row("1", "en", "t", "Ada met Bo", (Entity(0, 3, None), Entity(8, 10, "MISC")), ())
    (sentence,) = sentences([row], ["PER"], builder, propose)
    assert set(sentence.bounds.ravel().tolist()) == {-1, 0}
    assert len(sentence.gold) == 0


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50), st.sampled_from((0.5, 0.9, 0.99, 1.0)))
def test_the_threshold_keeps_the_recall_that_was_asked_for(values: list[float], recall: float) -> None:
    """At least that share of gold mentions reaches it."""
    scores = [np.array([[value, 1.0]], np.float32) for value in values]
    one = np.array([[0, 1]], np.int32)
    data = sentences(corpus(("Ada",)), ["PER"], InputBuilder(TOKENIZERS["luke"], 512), propose) * len(values)
    data = [type(item)(item.token_ids, item.bounds, one, one) for item in data]
    threshold = least_bound(scores, data, recall)
    assert np.mean([value >= threshold for value in values]) >= recall - 1e-9


def test_an_empty_development_set_gives_the_usual_threshold() -> None:
    """Nothing to choose from: one half."""
    assert least_bound([], [], 0.99) == 0.5


def test_word_states_have_unit_variance(folder: Path) -> None:
    """Whatever the scale of the embeddings: the net starts alike on every model."""
    table, _ = encoder_tables(resolve(str(folder)))
    states = word_states(table, torch.arange(6).view(2, 3))
    assert states.shape == (2, 3, 32)
    assert torch.allclose(states.var(-1, correction=0), torch.ones(2, 3), atol=1e-2)
    assert SpanScorerNet(32, 8)(states, torch.ones(2, 3, dtype=torch.bool)).shape == (2, 3, 2)
