"""The span scorer: its net and its training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import CheckpointError
from luke_batch.model.engine.span_scorer import SpanScorer, SpanScorerNet, word_states
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.weights import Table, encoder_tables
from luke_batch.model.inputs.windows import InputBuilder, Window
from luke_batch.text.words import all_spans, words
from luke_batch.training.corpus import GoldEntity, Row
from luke_batch.training.span_scorer import (
    ScorerConfig,
    least_bound,
    sentences,
    span_least,
    span_scores,
    train,
)
from tests.checkpoints import TOKENIZERS, add_span_scorer, make_multi_head


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


def propose(row: Row) -> IntArray:
    """All runs of up to three words."""
    return all_spans(words(row.text, row.lang), np.array([[0, len(row.text)]], np.int32), 3)


def corpus(names: tuple[str, ...]) -> list[Row]:
    """Sentences that say where somebody lives; the name is the mention."""
    return [
        Row(name, "en", "test", f"we saw {name} near the water today", (GoldEntity(7, 7 + len(name), "PER"),), ())
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
    row = Row("1", "en", "t", "Ada met Bo", (GoldEntity(0, 3, None), GoldEntity(8, 10, "MISC")), ())
    (sentence,) = sentences([row], ["PER"], builder, propose)
    assert set(sentence.example.targets.ravel().tolist()) == {-1, 0}
    assert len(sentence.gold) == 0


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50), st.sampled_from((0.5, 0.9, 0.99, 1.0)))
def test_the_threshold_keeps_the_recall_that_was_asked_for(values: list[float], recall: float) -> None:
    """At least that share of gold mentions reaches it."""
    scores = [np.array([[value, 1.0]], np.float32) for value in values]
    one = np.array([[0, 1]], np.int32)
    data = sentences(corpus(("Ada",)), ["PER"], InputBuilder(TOKENIZERS["luke"], 512), propose) * len(values)
    data = [type(item)(item.example, one, one) for item in data]
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
