"""Joint heads: equal to products over the states of transformers' LukeModel, of one pass a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from transformers import LukeConfig, LukeModel

from luke_batch.annotate.annotator import Annotator, check_models
from luke_batch.base.errors import ConfigError, LukeBatchError
from luke_batch.config import JobConfig
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.weights import encoder_state
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder, padded_positions
from tests.checkpoints import LABELS, make_joint, make_multi_head

SENTENCES = ("Ada Lovelace met Charles Babbage in London.", "It rained.", "He knew Mary Somerville of Jedburgh.")
TEXT = " ".join(SENTENCES)
NAMES = ("Ada Lovelace", "Charles Babbage", "London", "Mary Somerville", "Jedburgh")
SPANS = [(TEXT.index(name), TEXT.index(name) + len(name)) for name in NAMES]
GIVEN = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with joint heads."""
    return make_joint(tmp_path_factory.mktemp("joint") / "model")


def job(folder: Path, heads: list[dict[str, Any]], engine: str = "fast") -> JobConfig:
    """A job over given mentions."""
    return JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "models": {"main": {"path": str(folder), "engine": engine}},
            "heads": [{"spans": "given", **head} for head in heads],
        }
    )


def annotated(folder: Path, heads: list[dict[str, Any]], engine: str = "fast") -> dict[str, Any]:
    """The annotated row of TEXT."""
    given = [[{"start": start, "end": end} for start, end in SPANS]]
    table = pa.table({"id": ["a"], "text": [TEXT], "given": pa.array(given, GIVEN)})
    row = Annotator.from_config(job(folder, heads, engine)).annotate(table).to_pylist()[0]
    assert row["error"] is None
    return row


def states_of(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(mentions, hidden) states and the mean of the words, one sentence after another through transformers' class."""
    checkpoint = resolve(str(folder))
    builder = InputBuilder(Tokenizer.load(checkpoint.folder))
    config = LukeConfig.from_dict(dict(checkpoint.config))
    model = LukeModel(config, add_pooling_layer=False).eval()
    model.load_state_dict(encoder_state(checkpoint))
    found, words = [], []
    for sentence, names in zip(SENTENCES, (NAMES[:3], (), NAMES[3:]), strict=True):
        spans = np.array([(sentence.index(name), sentence.index(name) + len(name)) for name in names], np.int32)
        start = "" if sentence is SENTENCES[0] else " "  # the space before a sentence that is read by itself
        if not len(spans):
            window = builder.text_window(builder.tokenize(start + sentence, spans.reshape(-1, 2)).ids)
        else:
            nothing = np.empty(0, np.int32)
            window = builder.mention_window(builder.tokenize(sentence, spans), nothing, nothing)
        inputs: dict[str, Any] = {"input_ids": torch.tensor(window.token_ids[None].astype(np.int64))}
        if len(spans):
            positions = padded_positions(window.entity_spans, checkpoint.max_mention_length)
            inputs |= {
                "entity_ids": torch.tensor(window.entity_ids[None].astype(np.int64)),
                "entity_position_ids": torch.tensor(positions[None].astype(np.int64)),
                "entity_attention_mask": torch.ones(1, len(spans), dtype=torch.int64),
            }
        with torch.inference_mode():
            output = model(**inputs)
        words.append(output.last_hidden_state[0, 1:-1].numpy())
        if len(spans):
            found.append(output.entity_last_hidden_state[0].numpy())
    return np.concatenate(found), np.concatenate(words).mean(0)


@pytest.mark.parametrize("engine", ["fast", "transformers"])
def test_joint_heads_are_products_over_the_states_of_one_pass(folder: Path, engine: str) -> None:
    """Both engines, against products in NumPy over transformers' states."""
    row = annotated(
        folder,
        [{"head": "types", "threshold": 0.01}, {"head": "relations", "threshold": 0.01}, {"head": "embeddings"}],
        engine,
    )
    states, text = states_of(folder)
    heads = {name: item.numpy() for name, item in load_file(folder / "heads.safetensors").items()}
    np.testing.assert_allclose(np.array(row["mention_embeddings"]), states, atol=2e-5)
    np.testing.assert_allclose(np.array(row["text_embedding"]), text, atol=2e-5)
    wanted = 1 / (1 + np.exp(-(states @ heads["types.weight"].T + heads["types.bias"])))
    found = np.array(
        [[{e["label"]: e["score"] for e in m["types"]}[label] for label in LABELS["types"]] for m in row["mentions"]]
    )
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    pairs = [(h, t) for group in ((0, 1, 2), (3, 4)) for h in group for t in group if h != t]
    both = np.array(
        [
            heads["relations.out.weight"]
            @ np.maximum(
                heads["relations.head.weight"] @ states[h]
                + heads["relations.tail.weight"] @ states[t]
                + heads["relations.tail.bias"],
                0,
            )
            + heads["relations.out.bias"]
            for h, t in pairs
        ]
    )
    scores = {
        (pair, label): p
        for pair, row_ in zip(pairs, 1 / (1 + np.exp(-both)), strict=True)
        for label, p in zip(LABELS["relations"], row_, strict=True)
    }
    written = {((r["head"], r["tail"]), r["label"]): r["score"] for r in row["relations"]}
    assert written.keys() == {key for key, score in scores.items() if score >= 0.01 and key[1] != "no_relation"}
    np.testing.assert_allclose([written[key] for key in written], [scores[key] for key in written], atol=2e-5)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_heads_share_one_pass_in_any_order(folder: Path, order: tuple[int, ...]) -> None:
    """Two windows for two sentences with mentions, and one for the other sentence, whatever the order."""
    heads = [{"head": "types"}, {"head": "relations"}, {"head": "embeddings"}]
    row = annotated(folder, [heads[place] for place in order])
    assert row["coverage"]["windows"] == len(SENTENCES)
    first = annotated(folder, heads)
    assert all(
        row[column] == first[column] for column in ("mentions", "relations", "mention_embeddings", "text_embedding")
    )


def test_a_head_is_read_as_it_was_trained(folder: Path, tmp_path: Path) -> None:
    """A head in the other input than its own would give nonsense."""
    marked = make_multi_head(tmp_path / "marked")
    for path, wanted in ((folder, "marked"), (marked, "joint")):
        for head in ("types", "relations"):
            with pytest.raises(ConfigError, match=f"`input: {wanted}`.*leave it at auto"):
                check_models(job(path, [{"head": head, "input": wanted}]))
    check_models(job(folder, [{"head": "types", "input": "joint"}]))
    with pytest.raises(LukeBatchError, match="text_from: joint"):
        check_models(job(marked, [{"head": "embeddings", "text_from": "joint"}]))
