"""Knowledge-enhanced vectors: what the model reads beside the text, against transformers' LukeModel."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
import pytest
import transformers
from hypothesis import strategies as st

from luke_batch.annotate.annotator import Annotator
from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import CheckpointError, ConfigError
from luke_batch.config import JobConfig
from luke_batch.heads.embeddings import _words_of
from luke_batch.heads.placed_text import shown
from luke_batch.heads.sentence_windows import SentenceWindow
from luke_batch.heads.titles import Titles
from luke_batch.model.engine.engine import Task
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder, Tokens
from tests.checkpoints import HIDDEN, TOKENIZERS, Recipe, with_head
from tests.references import reference

Folders = Callable[[Recipe], Path]
Given = Sequence[tuple[int, int, str | None]]

TEXT = "Beyoncé left Los Angeles for the sea."
BOTH: Given = [(0, 7, "Beyoncé"), (13, 24, "Los Angeles")]
VARIANTS = [Recipe(seed=2), Recipe(kind="mluke", entity_aware=False, entity_emb_size=HIDDEN, seed=2)]
MENTION = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("title", pa.string())])
NOTHING = np.empty(0, np.int32)


def embed(folder: Path, texts: Sequence[str], given: Sequence[Given], **settings: object) -> list[dict[str, Any]]:
    """Rows of a job with one embeddings head over given mentions with titles."""
    rows = [[{"start": a, "end": b, "title": title} for a, b, title in mentions] for mentions in given]
    job = JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "models": {"main": {"path": str(folder)}},
            "heads": [{"head": "embeddings", "spans": "given", **settings}],
        }
    )
    table = pa.table({"text": list(texts), "given": pa.array(rows, pa.list_(MENTION))})
    return Annotator.from_config(job).annotate(table).to_pylist()


def states(folder: Path, text: str, given: Given, task: Task) -> FloatArray:
    """LukeModel's last hidden states with the titles' entities as input."""
    tokenizer = Tokenizer.load(folder)
    builder, titles = InputBuilder(tokenizer), Titles.of(tokenizer, "en")
    spans = np.array([(a, b) for a, b, _ in given], np.int32).reshape(-1, 2)
    tokens = builder.tokenize(text, spans)
    ids = np.array([titles.find(title) for _, _, title in given], np.int32)
    window = builder.entity_window(tokens, NOTHING, NOTHING, ids)
    return reference(transformers.LukeModel.from_pretrained(folder).eval(), task, window)


@pytest.fixture(params=VARIANTS, ids=lambda recipe: recipe.kind)
def folder(request: pytest.FixtureRequest, checkpoint_folder: Folders) -> Path:
    """A LUKE and an mLUKE checkpoint with titles."""
    return checkpoint_folder(request.param)


def test_entities_are_those_of_luke_model(folder: Path) -> None:
    """The last state of each title as input; none for a mention without a title that the model knows."""
    given = [*BOTH, (33, 36, None), (29, 32, "Nowhere")]
    (row,) = embed(folder, [TEXT], [given], of="entities")
    wanted = states(folder, TEXT, BOTH, Task.MENTIONS)
    vectors = dict(zip([m["text"] for m in row["mentions"]], row["entity_embeddings"], strict=True))
    assert vectors["Beyoncé"] == pytest.approx(wanted[0], abs=1e-4)
    assert vectors["Los Angeles"] == pytest.approx(wanted[1], abs=1e-4)
    assert vectors["sea"] is None
    assert vectors["the"] is None
    assert row["coverage"]["dropped"] == [{"reason": "title_without_entity", "count": 1}]


def test_texts_read_with_their_entities_are_those_of_luke_model(folder: Path) -> None:
    """The mean of the word states, which attend to the entities."""
    (row,) = embed(folder, [TEXT], [BOTH], of="text", with_entities=True)
    wanted = states(folder, TEXT, BOTH, Task.TEXT)[1:-1].mean(0)
    assert row["text_embedding"] == pytest.approx(wanted, abs=1e-4)


def test_vectors_differ_from_plain_ones_exactly_where_entities_are_given(folder: Path) -> None:
    """A text without a known title has its plain vector, bit for bit; one with a title has another."""
    given: list[Given] = [BOTH, [(0, 7, None)], [(0, 7, "Nowhere")], []]
    plain = embed(folder, [TEXT] * 4, given, of="text")
    enhanced = embed(folder, [TEXT] * 4, given, of="text", with_entities=True)
    same = [one["text_embedding"] == other["text_embedding"] for one, other in zip(plain, enhanced, strict=True)]
    assert same == [False, True, True, True]


def test_a_long_text_is_read_in_windows_with_its_entities(folder: Path) -> None:
    """Of 3,000 tokens each is read once, each entity in the window of its sentence."""
    text = " ".join([TEXT] * 200)
    shift = len(TEXT) + 1
    given = [(a + n * shift, b + n * shift, title) for n in range(200) for a, b, title in BOTH]
    (row,) = embed(folder, [text], [given], of=["text", "entities"], with_entities=True)
    assert row["coverage"]["dropped"] == []
    assert row["coverage"]["tokens"] >= 2 * 3000
    assert None not in row["entity_embeddings"]
    alone = states(folder, TEXT, BOTH, Task.MENTIONS)
    for place in (0, 1, 398, 399):
        assert row["entity_embeddings"][place] == pytest.approx(alone[place % 2], abs=1e-4)
    assert row["text_embedding"] is not None
    (plain,) = embed(folder, [text], [given], of="text")
    assert plain["coverage"]["tokens"] * 2 >= row["coverage"]["tokens"] * 0.9
    assert np.abs(np.subtract(row["text_embedding"], plain["text_embedding"])).max() > 1e-3


def test_vectors_are_normalized_on_request(folder: Path) -> None:
    """Of length 1 in the same direction, in half precision too."""
    (plain,) = embed(folder, [TEXT], [BOTH], of=["mentions", "entities", "text"])
    (unit,) = embed(folder, [TEXT], [BOTH], of=["mentions", "entities", "text"], normalized=True, dtype="float16")
    for column in ("mention_embeddings", "entity_embeddings"):
        for one, other in zip(plain[column], unit[column], strict=True):
            assert np.array(other) == pytest.approx(np.array(one) / np.linalg.norm(one), abs=2e-3)
    one = np.array(plain["text_embedding"])
    assert np.array(unit["text_embedding"]) == pytest.approx(one / np.linalg.norm(one), abs=2e-3)


@pytest.mark.parametrize("settings", [{"of": "entities"}, {"of": "text", "with_entities": True}])
def test_a_checkpoint_without_titles_reads_no_entities(checkpoint_folder: Folders, settings: dict[str, Any]) -> None:
    """A lite checkpoint is refused at planning, with the reason."""
    lite = checkpoint_folder(Recipe(lite=True))
    with pytest.raises(CheckpointError, match=r"no titles .*so it can neither link, read nor predict entities"):
        embed(lite, [TEXT], [BOTH], **settings)


@pytest.mark.parametrize("given", [BOTH, []], ids=["with entities", "plain"])
def test_words_are_the_means_of_their_pieces(folder: Path, given: Given) -> None:
    """Each word's vector is the mean of LukeModel's states of the pieces that text up to its end adds."""
    (row,) = embed(folder, [TEXT], [given], of=["words", "text"], with_entities=True, title_language="en")
    builder = InputBuilder(Tokenizer.load(folder))
    wanted = states(folder, TEXT, given, Task.TEXT)[1:-1]
    spans = np.array([(a, b) for a, b, _ in given], np.int32).reshape(-1, 2)

    def pieces(end: int) -> int:
        return len(builder.tokenize(TEXT[:end].rstrip(), spans[spans[:, 1] <= end]).ids)

    found = [(word["start"], word["end"]) for word in row["word_embeddings"]]
    assert [TEXT[a:b] for a, b in found] == [
        *("Beyoncé", "left", "Los", "Angeles", "for", "the", "sea", "."),
    ]
    for word in row["word_embeddings"]:
        own = wanted[pieces(word["start"]) : pieces(word["end"])]
        assert word["vector"] == pytest.approx(own.mean(0), abs=1e-4)
    (alone,) = embed(folder, [TEXT], [given], of="text", with_entities=True)
    assert row["text_embedding"] == pytest.approx(alone["text_embedding"], abs=1e-6)


def test_words_of_a_long_text_are_all_there(folder: Path) -> None:
    """Of 3,000 tokens every word has a vector, normalized and in half precision."""
    text = " ".join([TEXT] * 150)
    settings = {"of": "words", "normalized": True, "dtype": "float16"}
    (row,) = embed(folder, [text], [[]], **settings)
    words = row["word_embeddings"]
    assert [text[word["start"] : word["end"]] for word in words[:2]] == ["Beyoncé", "left"]
    assert len(words) == 150 * 8
    lengths = np.linalg.norm(np.array([word["vector"] for word in words], np.float32), axis=1)
    assert lengths == pytest.approx(1, abs=2e-3)
    assert row["coverage"]["dropped"] == []


@hypothesis.given(st.text("ab é\u3000𝒳.ﬁ", max_size=20), st.data())
def test_placed_tokens_are_those_of_the_text(text: str, data: st.DataObject) -> None:
    """Around any spans the ids and ranges are `tokenize`'s, and what a token shows lies inside the text."""
    bounds = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(sorted)
    spans = np.array(data.draw(st.lists(bounds, max_size=3)), np.int32).reshape(-1, 2)
    for tokenizer in TOKENIZERS.values():
        builder = InputBuilder(tokenizer)
        plain, (tokens, pieces) = builder.tokenize(text, spans), builder.place(text, spans)
        assert tokens.ids.tolist() == plain.ids.tolist()
        assert tokens.spans.tolist() == plain.spans.tolist()
        characters = shown(pieces, text)
        assert len(characters) == len(tokens.ids)
        assert (characters >= 0).all()
        assert (characters <= len(text)).all()


def test_a_word_inside_of_a_token_has_its_vector(checkpoint_folder: Folders) -> None:
    """Where one token covers two words, the second has the state of that token, too."""
    window = SentenceWindow(
        Tokens(
            np.arange(3, dtype=np.int32),
            np.empty((0, 2), np.int32),
            np.array([[0, 4], [4, 5], [6, 9]], np.int32),
        ),
        np.empty(0, np.intp),
    )
    words = np.array([[0, 2], [2, 4], [4, 5], [6, 9], [9, 11]], np.int32)
    tokens, places = _words_of(window, words)
    assert sorted(zip(tokens.tolist(), places.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 2), (2, 3)]
    (row,) = embed(checkpoint_folder(VARIANTS[1]), ["東京に行く。私は学生です。"], [[]], of="words")
    assert None not in [word["vector"] for word in row["word_embeddings"]]


def test_given_titles_pass_through_ner(checkpoint_folder: Folders) -> None:
    """The head `ner` labels given mentions, and leaves their titles to the heads after it."""
    folder = checkpoint_folder(VARIANTS[0])
    ner = {"head": "ner", "model": str(checkpoint_folder(with_head("ner", VARIANTS[0]))), "spans": "given"}
    rows = [[{"start": a, "end": b, "title": title} for a, b, title in BOTH]]
    after = {"head": "embeddings", "model": str(folder), "of": "entities"}
    config = {"input": {"mentions_column": "given"}, "heads": [ner, after]}
    table = pa.table({"text": [TEXT], "given": pa.array(rows, pa.list_(MENTION))})
    (row,) = Annotator.from_config(JobConfig.model_validate(config)).annotate(table).to_pylist()
    assert [mention["title"] for mention in row["mentions"]] == ["Beyoncé", "Los Angeles"]
    assert None not in row["entity_embeddings"]


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (
            [{"head": "ner"}, {"head": "embeddings", "of": "entities"}],
            "nothing finds them; put a `links` head",
        ),
        (
            [{"head": "ner"}, {"head": "embeddings", "of": "entities"}, {"head": "links"}],
            "put it after `links`",
        ),
    ],
)
def test_titles_must_come_from_somewhere(heads: list[dict[str, Any]], message: str) -> None:
    """A job whose entity vectors would all be null is refused."""
    with pytest.raises(ConfigError, match=message):
        JobConfig.model_validate({"heads": heads})


@pytest.mark.parametrize("of", ["mentions", "entities", "text", ["mentions", "entities", "text"]])
def test_a_long_mention_is_counted_once(folder: Path, of: object) -> None:
    """Beyond 30 tokens it does not count for its position, whichever vectors are asked for."""
    name = "Beyoncé" * 60
    settings = {"of": of, "with_entities": True}
    (row,) = embed(folder, [f"{name} left."], [[(0, len(name), "Beyoncé")]], **settings)
    assert row["coverage"]["dropped"] == [{"reason": "clipped_mention", "count": 1}]
