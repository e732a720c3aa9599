"""Linking: candidates, rounds, windows and refusals, against transformers' own class."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from luke_batch.annotate.annotator import Annotator, check_models
from luke_batch.base.errors import CheckpointError, ConfigError
from luke_batch.config import JobConfig, ModelConfig
from luke_batch.heads.links import Scale, settled_next
from luke_batch.heads.titles import Titles
from luke_batch.model.engine.engine import Task, load_engine
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder, Window
from tests.checkpoints import Recipe, with_head
from tests.memory import peak_memory

Folders = Callable[[Recipe], Path]

TEXT = "Beyoncé left Los Angeles for Tokyo, said the European Central Bank."
SPANS = [(0, 7), (13, 24), (29, 34), (45, 66)]
TITLES = ["Beyoncé", "Los Angeles", "Tokyo", "European Central Bank", "Москва"]
MENTION = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("candidates", pa.list_(pa.string()))])


def job(folder: Path, head: dict[str, Any], **sections: object) -> JobConfig:
    """A job with one links head over given mentions, unless told otherwise."""
    return JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "models": {"main": {"path": str(folder), **sections.pop("model", {})}},  # type: ignore[dict-item]
            "heads": [{"head": "links", "spans": "given", "candidates": "given", **head}],
            **sections,
        }
    )


def given_table(texts: Sequence[str], mentions: Sequence[Sequence[tuple[int, int, list[str] | None]]]) -> pa.Table:
    """Texts with given mentions and their candidates."""
    rows = [[{"start": start, "end": end, "candidates": titles} for start, end, titles in row] for row in mentions]
    return pa.table({"text": list(texts), "given": pa.array(rows, pa.list_(MENTION))})


def by_transformers(
    folder: Path,
    text: str,
    spans: Sequence[tuple[int, int]],
    titles: Sequence[Sequence[str]],
    rounds: int | None,
) -> list[tuple[str, float]]:
    """Title and probability of each mention: softmax over the candidates' logits in the whole vocabulary's
    row; the surest first, which then stand in the input.
    """
    tokenizer = Tokenizer.load(folder)
    builder = InputBuilder(tokenizer)
    window = builder.mention_window(builder.tokenize(text, np.array(spans, np.int32)), *(np.empty(0, np.int32),) * 2)
    known = Titles.of(tokenizer, "en")
    ids = [[known.find(title) for title in row] for row in titles]
    model = transformers.LukeForMaskedLM.from_pretrained(folder).eval()
    entities = window.entity_ids.tolist()
    positions = [[*range(a, b), *[-1] * 30][:30] for a, b in window.entity_spans.tolist()]
    found: dict[int, tuple[str, float]] = {}
    left = rounds
    while len(found) < len(spans):
        with torch.inference_mode():
            logits = model(
                input_ids=torch.tensor([window.token_ids.tolist()]),
                entity_ids=torch.tensor([entities]),
                entity_position_ids=torch.tensor([positions]),
            ).entity_logits[0]
        guesses = {
            n: torch.softmax(logits[n][torch.tensor(ids[n])], 0).max(0) for n in range(len(spans)) if n not in found
        }
        count = 1 if left is None else -(-len(guesses) // left)
        for n in sorted(guesses, key=lambda n: -float(guesses[n].values))[:count]:
            best = int(guesses[n].indices)
            found[n] = titles[n][best], float(guesses[n].values)
            entities[n] = ids[n][best]
        left = None if left is None else left - 1
    return [found[n] for n in range(len(spans))]


@pytest.mark.parametrize("rounds", [1, 2, "all"])
@pytest.mark.parametrize("engine", ["fast", "transformers"])
@pytest.mark.parametrize("kind", ["luke", "mluke"])
def test_titles_and_scores_are_those_of_transformers(
    checkpoint_folder: Folders, kind: Any, engine: str, rounds: Any
) -> None:
    """Every mention gets the title of the whole row's best candidate, in any number of rounds."""
    folder = checkpoint_folder(with_head("links", Recipe(kind=kind, seed=3)))
    vocabulary = Titles.of(Tokenizer.load(folder), "en")
    known = [title for title in (*TITLES, "AC\\DC", "MASK") if vocabulary.find(title) is not None]
    titles = [known, known, known[:2][::-1], known]
    assert len(known) >= 2
    table = given_table([TEXT], [[(*span, row) for span, row in zip(SPANS, titles, strict=True)]])
    config = job(folder, {"rounds": rounds}, model={"engine": engine})
    mentions = Annotator.from_config(config).annotate(table)["mentions"][0].as_py()
    wanted = by_transformers(folder, TEXT, SPANS, titles, None if rounds == "all" else rounds)
    assert [mention["title"] for mention in mentions] == [title for title, _ in wanted]
    assert [mention["title_score"] for mention in mentions] == pytest.approx([p for _, p in wanted], abs=1e-5)
    assert {mention["qid"] for mention in mentions} == {None}


def test_settled_titles_change_what_is_found_later(checkpoint_folder: Folders) -> None:
    """The test above would mean little if rounds did not matter: here they do."""
    folder = checkpoint_folder(with_head("links", Recipe(seed=3)))
    table = given_table([TEXT], [[(*span, TITLES) for span in SPANS]])
    scores = [
        [
            mention["title_score"]
            for mention in Annotator.from_config(job(folder, {"rounds": rounds})).annotate(table)["mentions"][0].as_py()
        ]
        for rounds in (1, "all")
    ]
    assert np.abs(np.array(scores[0]) - np.array(scores[1])).max() > 0.01


@pytest.mark.parametrize("context", ["none", "document"])
def test_a_long_text_gives_what_its_windows_give(checkpoint_folder: Folders, context: str) -> None:
    """Of 3,000 tokens no mention is lost, and each is read once a round."""
    folder = checkpoint_folder(with_head("links", Recipe(seed=3)))
    text = " ".join([TEXT] * 90)
    spans = [(start + n * (len(TEXT) + 1), end + n * (len(TEXT) + 1)) for n in range(90) for start, end in SPANS]
    table = given_table([text], [[(*span, TITLES) for span in spans]])
    config = job(folder, {"context": context}, segmenter={"max_characters": 100})
    row = Annotator.from_config(config).annotate(table).to_pylist()[0]
    assert row["coverage"]["tokens"] >= 3000
    assert row["coverage"]["dropped"] == []
    assert row["coverage"]["spans_scored"] == len(spans)
    assert all(mention["title"] for mention in row["mentions"])
    if context == "none":
        alone = by_transformers(folder, TEXT, SPANS, [TITLES] * 4, 1)
        assert row["coverage"]["windows"] == 90
        for mention, (title, score) in zip(row["mentions"], alone * 90, strict=True):
            assert mention["title"] == title
            assert mention["title_score"] == pytest.approx(score, abs=1e-5)
    else:
        # Passages of as many sentences as fit into 510 tokens, far fewer than there are sentences.
        assert row["coverage"]["windows"] <= 2 + row["coverage"]["tokens"] / 400


def aliases(path: Path) -> Path:
    """An alias table with one ambiguous name, one that the model does not know, and ids."""
    rows = [
        ("Beyoncé", "Beyoncé", 8, "Q36153"),
        ("Beyoncé", "Tokyo", 2, "Q1490"),
        ("Los Angeles", "Los Angeles", 5, "Q65"),
        ("Tokyo", "Nowhere", 1, None),
    ]
    columns = zip(*rows, strict=True)
    pq.write_table(pa.table(dict(zip(("name", "title", "count", "qid"), columns, strict=True))), path)
    return path


def test_the_alias_table_proposes_mentions_and_candidates(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """Names become mentions with title, qid and probability; what cannot be linked stays, and is counted."""
    folder = checkpoint_folder(with_head("links", Recipe(seed=3)))
    config = job(
        folder,
        {"spans": "alias", "candidates": "aliases"},
        proposers={"aliases": {"path": str(aliases(tmp_path / "aliases.parquet"))}},
    )
    table = given_table([TEXT], [[]])
    row = Annotator.from_config(config).annotate(table).to_pylist()[0]
    assert [mention["text"] for mention in row["mentions"]] == ["Beyoncé", "Los Angeles", "Tokyo"]
    assert row["mentions"][0]["title"] in ("Beyoncé", "Tokyo")
    assert row["mentions"][1]["title"] == "Los Angeles"
    assert row["mentions"][1]["qid"] == "Q65"
    assert row["mentions"][1]["title_score"] == pytest.approx(1)
    assert row["mentions"][2]["title"] is None
    assert {entry["reason"]: entry["count"] for entry in row["coverage"]["dropped"]} == {
        "candidate_without_entity": 1,
        "mention_without_candidates": 1,
    }


def test_a_large_prior_weight_makes_the_prior_decide(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """With enough weight on the prior the most linked title wins, whatever the model says."""
    folder = checkpoint_folder(with_head("links", Recipe(seed=3)))
    config = job(
        folder,
        {"spans": "alias", "candidates": "aliases", "prior_weight": 1000},
        proposers={"aliases": {"path": str(aliases(tmp_path / "aliases.parquet"))}},
    )
    row = Annotator.from_config(config).annotate(given_table([TEXT], [[]])).to_pylist()[0]
    assert row["mentions"][0]["title"] == "Beyoncé"


@given(
    st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=6),
    st.floats(0.2, 4),
    st.floats(0, 2),
    st.one_of(st.none(), st.floats(-9, 9)),
)
def test_probabilities_are_a_softmax_over_candidates_and_none_of_them(
    logits: list[float], temperature: float, weight: float, nil: float | None
) -> None:
    """With priors as logarithms, and one score for "none of them" where the checkpoint has one."""
    priors = np.linspace(1, 0.1, len(logits), dtype=np.float32)
    scale = Scale(temperature, weight, nil, 0.0)
    found = scale.probabilities(np.array(logits, np.float32), priors)
    scores = [(logit + weight * np.log(prior)) / temperature for logit, prior in zip(logits, priors, strict=True)]
    everything = np.exp([*scores, *([] if nil is None else [nil / temperature])])
    assert found == pytest.approx(everything[: len(logits)] / everything.sum(), abs=1e-5)
    nothing = 0.0 if nil is None else everything[-1] / everything.sum()
    if abs(found.max() - nothing) > 1e-4:
        assert scale.accepts(found) == (found.max() > nothing)


def test_a_threshold_makes_nil_of_doubtful_titles() -> None:
    """A title under the threshold is not written, though it is the best."""
    scale = Scale(1.0, 0.0, None, 0.6)
    assert not scale.accepts(np.array([0.5, 0.5], np.float32))
    assert scale.accepts(np.array([0.7, 0.3], np.float32))


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1), st.integers(1, 9))
def test_every_mention_is_settled_in_the_rounds_there_are(rows: list[tuple[float, bool]], rounds: int) -> None:
    """Each round settles the surest, and the last one leaves none."""
    best = np.array([score for score, _ in rows], np.float32)
    waiting = np.array([waits for _, waits in rows])
    for left in range(rounds, 0, -1):
        if not waiting.any():
            break
        chosen = settled_next(best, waiting, left)
        others = np.setdiff1d(np.flatnonzero(waiting), chosen)
        assert waiting[chosen].all()
        assert not len(others) or best[chosen].min() >= best[others].max()
        waiting[chosen] = False
    assert not waiting.any()


def test_titles_may_name_their_language() -> None:
    """`Paris` and `en:Paris` are one, in the vocabulary and in the table; special entries are none."""
    titles = Titles({"en:Paris": 5, "Tokyo": 6, "ja:東京": 7, "[MASK]": 2, "AC DC": 8}, "en")
    assert [titles.find(name) for name in ("Paris", "en:Paris", "Tokyo", "en:Tokyo", "ja:東京")] == [
        5,
        5,
        6,
        6,
        7,
    ]
    assert [titles.find(name) for name in ("東京", "fr:Paris", "[MASK]", None)] == [None] * 4
    assert titles.find("AC_DC") == 8
    assert Titles({"ja:東京": 7}, "ja").find("東京") == 7


def test_a_checkpoint_without_titles_cannot_link(checkpoint_folder: Folders) -> None:
    """A lite checkpoint is refused at planning, with the reason."""
    folder = checkpoint_folder(with_head("links", Recipe(lite=True)))
    with pytest.raises(CheckpointError, match=r"no titles .*so it can neither link.*studio-ousia/luke-base"):
        check_models(job(folder, {}))


def test_a_checkpoint_without_the_head_cannot_link(checkpoint_folder: Folders) -> None:
    """The message names the heads that there are."""
    with pytest.raises(CheckpointError, match=r"has no links head \(it is a LukeModel\)"):
        check_models(job(checkpoint_folder(Recipe()), {}))


def test_given_candidates_need_given_mentions() -> None:
    """There is no column that they could come from."""
    with pytest.raises(ConfigError, match=r"`candidates: given` needs `input\.mentions_column`"):
        JobConfig.model_validate({"heads": [{"head": "links", "spans": "auto", "candidates": "given"}]})


def test_mentions_without_candidates_are_nil(checkpoint_folder: Folders) -> None:
    """No list, an empty one, and titles that the model lacks: the mention stays, without a title."""
    folder = checkpoint_folder(with_head("links", Recipe(seed=3)))
    table = given_table([TEXT], [[(0, 7, None), (13, 24, []), (29, 34, ["Nowhere", "[MASK]"])]])
    row = Annotator.from_config(job(folder, {})).annotate(table).to_pylist()[0]
    assert [mention["title"] for mention in row["mentions"]] == [None] * 3
    assert row["coverage"]["windows"] == 0


def test_the_embedded_model_links_by_its_alias_table() -> None:
    """Without any setting but the head's name: the defaults find names, candidates and titles."""
    config = JobConfig.model_validate({"heads": [{"head": "ner"}, {"head": "links"}]})
    text = "Beyoncé moved to Los Angeles in the United States."
    mentions = Annotator.from_config(config).annotate(pa.table({"text": [text]}))["mentions"][0].as_py()
    found = {mention["text"]: mention["title"] for mention in mentions}
    assert found == {"Beyoncé": "Beyoncé", "Los Angeles": "Los Angeles", "United States": "United States"}


def test_the_vocabulary_of_the_embedded_model_is_the_tables() -> None:
    """Every title of the embedded model is a candidate of some name, save for special entries."""
    from luke_batch.text.names.alias_source import read_aliases

    known = set(read_aliases("embedded")[0]["title"].to_pylist())
    folder = Path(__file__).parents[2] / "luke_batch/embedded/model"
    vocabulary = set(json.loads((folder / "entity_vocab.json").read_text(encoding="utf-8")))
    assert {title for title in vocabulary if not title.startswith("[")} <= known


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel tells no peak memory")
@pytest.mark.parametrize("engine", ["fast", "transformers"])
def test_no_row_of_a_large_vocabulary_is_built(
    checkpoint_folder: Folders, tmp_path: Path, engine: Literal["fast", "transformers"]
) -> None:
    """Of 500,000 titles the logits of 128 mentions would take 256 MB; their candidates take next to none."""
    rows, mentions = 500_000, 128
    folder = shutil.copytree(checkpoint_folder(with_head("links", Recipe())), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"entity_vocab_size": rows}))
    state = load_file(folder / "model.safetensors")
    for name in ("luke.entity_embeddings.entity_embeddings.weight", "entity_predictions.bias"):
        table = torch.zeros(rows, *state[name].shape[1:])
        table[: len(state[name])], table[-1] = state[name], state[name][3]
        state[name] = table
    state.pop("entity_predictions.decoder.weight", None)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    del state, table
    candidates = np.random.default_rng(0).integers(5, rows, (mentions, 30)).astype(np.int32)
    candidates[:, :2] = [rows - 1, 3]
    window = Window(
        np.arange(4, 204, dtype=np.int32),
        np.full(mentions, 2, np.int32),
        np.tile(np.array([[1, 3]], np.int32), (mentions, 1)),
        candidates,
    )
    loaded = load_engine(ModelConfig(engine=engine), resolve(str(folder)), [Task.LINKS], "cpu")
    loaded.run(Task.LINKS, [Window(window.token_ids, window.entity_ids, window.entity_spans, candidates[:, :1])])
    with peak_memory() as growth:
        (logits,) = loaded.run(Task.LINKS, [window])
    assert growth[0] < 96 * 2**20
    assert np.isfinite(logits).all()
    assert logits[:, 0] == pytest.approx(logits[:, 1], abs=1e-5)


def test_titles_of_one_entity_are_one_candidate(checkpoint_folder: Folders) -> None:
    """Repeated, with a language, or in two lists of one mention: the probabilities are those of one."""
    folder = checkpoint_folder(with_head("links", Recipe(seed=3)))
    once = [(0, 7, ["Beyoncé", "Los Angeles"])]
    other = [[(0, 7, ["Beyoncé", "en:Beyoncé", "Beyoncé", "Los Angeles"])]]
    other += [[(0, 7, ["Beyoncé"]), (0, 7, ["Los Angeles"]), (0, 7, None)]]
    rows = Annotator.from_config(job(folder, {})).annotate(given_table([TEXT] * 3, [once, *other])).to_pylist()
    (wanted,) = rows[0]["mentions"]
    assert [row["mentions"] for row in rows[1:]] == [
        [{**wanted, "title_score": pytest.approx(wanted["title_score"], abs=1e-6)}]
    ] * 2


def test_a_known_title_behind_many_unknown_ones_is_found(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """Titles that the model lacks take no place among the candidates, however many there are."""
    names = [*(f"A{n}" for n in range(50)), "Beyoncé", "en:Beyoncé"]
    counts = [1000] * 50 + [1, 3]
    table = {"name": ["Beyoncé"] * 52, "title": names, "count": counts, "qid": [*[None] * 51, "Q36153"]}
    pq.write_table(pa.table(table), tmp_path / "aliases.parquet")
    config = job(
        checkpoint_folder(with_head("links", Recipe(seed=3))),
        {"spans": "alias", "candidates": "aliases", "max_candidates": 1},
        proposers={"aliases": {"path": str(tmp_path / "aliases.parquet")}},
    )
    row = Annotator.from_config(config).annotate(given_table([TEXT], [[]])).to_pylist()[0]
    (mention,) = row["mentions"]
    assert (mention["title"], mention["qid"]) == ("en:Beyoncé", "Q36153")
    assert row["coverage"]["dropped"] == [{"reason": "candidate_without_entity", "count": 50}]


def test_a_title_beyond_the_entity_table_is_refused(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """At planning, where a vocabulary belongs to other weights."""
    folder = shutil.copytree(checkpoint_folder(with_head("links", Recipe())), tmp_path / "model")
    vocabulary = json.loads((folder / "entity_vocab.json").read_text())
    (folder / "entity_vocab.json").write_text(json.dumps(vocabulary | {"Zzz": 9999}))
    with pytest.raises(CheckpointError, match="gives 'Zzz' the id 9999, but the weights have"):
        check_models(job(folder, {}))
