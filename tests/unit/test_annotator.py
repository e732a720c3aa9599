"""The whole annotation in one process: what users get for ordinary, odd and broken documents."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers

from luke_batch.annotate.annotator import Annotator, ModelStage, check_models, model_stages, pinned
from luke_batch.base.contracts import load_contract
from luke_batch.base.errors import CheckpointError, ConfigError, InputError
from luke_batch.config import JobConfig
from luke_batch.document.source import rename_collisions, renamed_columns
from luke_batch.model.engine.transformers_engine import pad
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder
from tests.checkpoints import HIDDEN, TOKENIZERS, Recipe, add_span_scorer, damage_token, make_multi_head, with_head

TEXT = "Marie Curie was born in Warsaw. She moved to Paris, and met Pierre Curie there."
GIVEN = [(0, 11), (24, 30), (45, 50), (60, 72)]


def config(folder: Path, heads: list[dict[str, Any]], **settings: Any) -> JobConfig:
    """A job on one checkpoint with given mentions and pairs."""
    job = {
        "input": {"mentions_column": "given", "relations_column": "pairs"},
        "models": {"main": {"path": str(folder)}},
        "heads": heads,
    }
    return JobConfig.model_validate({**job, **settings})


def table(*texts: str | None, given: list[Any] | None = None, pairs: list[Any] | None = None) -> pa.Table:
    """Documents with ids, given mentions and given pairs."""
    return pa.table(
        {
            "id": [f"d{row}" for row in range(len(texts))],
            "text": pa.array(texts, pa.string()),
            "given": pa.array(
                given or [None] * len(texts),
                pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64())])),
            ),
            "pairs": pa.array(
                pairs or [None] * len(texts),
                pa.list_(pa.struct([("head", pa.int32()), ("tail", pa.int32())])),
            ),
        }
    )


def spans(*pairs: tuple[int, int]) -> list[dict[str, int]]:
    """Given mentions as rows."""
    return [{"start": start, "end": end} for start, end in pairs]


ALL_HEADS: list[dict[str, Any]] = [
    {"head": "ner", "spans": "auto"},
    {"head": "types"},
    {"head": "relations", "threshold": 0.2, "max_pairs": 3},
    {"head": "embeddings"},
]


def check(result: pa.Table) -> None:
    """What holds for every good row, whatever the model says."""
    load_contract("annotations").check(result.schema)
    for row in result.to_pylist():
        if row["error"] is not None:
            assert row["sentences"] is None
            continue
        text = row["text"] or ""
        assert [text[m["start"] : m["end"]] for m in row["mentions"]] == [m["text"] for m in row["mentions"]]
        keys = [(m["start"], -m["end"]) for m in row["mentions"]]
        assert keys == sorted(set(keys))
        for relation in row.get("relations") or []:
            assert 0 <= relation["head"] < len(keys)
            assert 0 <= relation["tail"] < len(keys)
        if "mention_embeddings" in row:
            assert len(row["mention_embeddings"]) == len(keys)
        assert row["coverage"]["characters"] == len(text)


ODD_TEXTS: list[str | None] = [
    TEXT,
    None,
    "",
    " \n\t ",
    "مرحبا بكم في القاهرة، عاصمة مصر.",
    "e\u0301tude de Zu\u0308rich \u200fabc\u200e",
    "👩‍👩‍👧 visited 東京 with 😀.",
    "NUL \x00 inside",
    "Literal [MASK] and <ent> and <s> and </s> and <mask> and [PAD]",
    "x" * 1500,
    "\ufeff\u2028\u0085",
    "A\u3000.",
]


@pytest.mark.parametrize("kind", ["luke", "mluke"])
def test_odd_texts_are_annotated(kind: Literal["luke", "mluke"], tmp_path: Path) -> None:
    """No row fails: null, blank, right-to-left, combining, emoji, NUL, literal special tokens, long words."""
    folder = make_multi_head(tmp_path / "model", kind)
    result = Annotator.from_config(config(folder, ALL_HEADS)).annotate(table(*ODD_TEXTS))
    check(result)
    assert result["error"].null_count == len(ODD_TEXTS)
    for row in (1, 2, 3):
        assert result["mentions"][row].as_py() == []
        assert result["text_embedding"][row].as_py() is None
    assert result["coverage"][9].as_py()["windows"] > 0
    assert result.column_names[:4] == ["id", "text", "given", "pairs"]


def test_a_result_depends_on_the_document_alone(multi_head_folder: Path) -> None:
    """Alone, among others, in any order: the same mentions, relations and (within tolerance) scores."""
    annotator = Annotator.from_config(config(multi_head_folder, ALL_HEADS))
    together = annotator.annotate(table(*ODD_TEXTS)).to_pylist()
    backwards = annotator.annotate(table(*ODD_TEXTS[::-1])).to_pylist()[::-1]
    for row, text in enumerate(ODD_TEXTS):
        alone = annotator.annotate(table(text)).to_pylist()[0]
        for other in (together[row], backwards[row]):
            assert [(m["start"], m["end"], m["label"]) for m in alone["mentions"]] == [
                (m["start"], m["end"], m["label"]) for m in other["mentions"]
            ]
            assert [m["score"] for m in alone["mentions"]] == pytest.approx(
                [m["score"] for m in other["mentions"]], abs=1e-5
            )
            assert alone["coverage"] == other["coverage"]


@pytest.mark.parametrize(
    ("given", "pairs", "said"),
    [
        (spans((5, 5)), None, "reversed or empty"),
        (spans((9, 3)), None, "reversed or empty"),
        (spans((0, 1000)), None, "outside of the text"),
        (spans((-1, 3)), None, "outside of the text"),
        (spans((0, 1 << 40)), None, "outside of the text"),
        ([{"start": None, "end": 3}], None, "without start or end"),
        ([None], None, "without start or end"),
        (spans((0, 5)), [{"head": 0, "tail": 1}], "names a mention that is not there"),
        (spans((0, 5)), [{"head": None, "tail": 0}], "without head or tail"),
    ],
)
def test_a_wrong_given_span_fails_its_document_alone(
    multi_head_folder: Path, given: list[Any], pairs: list[Any] | None, said: str
) -> None:
    """The document has nulls and a reason of stage `propose`; its neighbour is annotated."""
    job = config(multi_head_folder, [{"head": "ner", "spans": "given"}])
    result = Annotator.from_config(job).annotate(table(TEXT, TEXT, given=[given, spans(*GIVEN)], pairs=[pairs, None]))
    check(result)
    error = result["error"][0].as_py()
    assert error["stage"] == "propose"
    assert error["error_class"] == "DocumentError"
    assert said in error["message"]
    assert result["mentions"][0].as_py() is None
    assert len(result["mentions"][1].as_py()) == len(GIVEN)


def test_given_mentions_are_never_dropped(multi_head_folder: Path) -> None:
    """NER only labels them: overlapping, repeated, blank ones and those across sentences all stay."""
    odd = spans((0, 11), (0, 5), (0, 11), (20, 50), (31, 32))
    job = config(multi_head_folder, [{"head": "ner", "spans": ["given", "auto"]}, *ALL_HEADS[1:]])
    result = Annotator.from_config(job).annotate(table(TEXT, given=[odd]))
    check(result)
    found = {(m["start"], m["end"]) for m in result["mentions"][0].as_py()}
    assert {(0, 11), (0, 5), (20, 50), (31, 32)} <= found
    assert {"reason": "no_token", "count": 1} in result["coverage"][0].as_py()["dropped"]


@pytest.mark.parametrize(
    "heads",
    [
        [{"head": "ner", "spans": "all"}],
        [{"head": "ner", "spans": "auto"}],
        [{"head": "types", "spans": "given"}],
        [{"head": "relations", "spans": "given"}],
        [{"head": "embeddings", "spans": "given"}],
        [{"head": "embeddings", "of": "words"}],
    ],
    ids=str,
)
@pytest.mark.parametrize("engine", ["fast", "transformers"])
def test_numbers_that_are_none_fail_their_document_alone(
    tmp_path: Path, heads: list[dict[str, Any]], engine: str
) -> None:
    """Of documents that read a damaged weight nothing is written but the reason; the others are annotated."""
    folder = add_span_scorer(make_multi_head(tmp_path / "model"), 0.001)
    texts = [TEXT, TEXT.replace("Paris", "P@ris"), TEXT]
    (token,) = TOKENIZERS["luke"].encode(["@"])[0].tolist()
    job = config(folder, heads, models={"main": {"path": str(folder), "engine": engine}})
    rows = table(*texts, given=[spans(*GIVEN)] * 3)
    sound = Annotator.from_config(job).annotate(rows).to_pylist()
    assert [row["error"] for row in sound] == [None] * 3
    damage_token(folder, token)
    first, damaged, last = Annotator.from_config(job).annotate(rows).to_pylist()
    assert (damaged["error"]["stage"], damaged["error"]["error_class"]) == (heads[0]["head"], "FloatingPointError")
    assert "is not a number" in damaged["error"]["message"]
    assert damaged["mentions"] is None
    for found, wanted in ((first, sound[0]), (last, sound[2])):
        assert found["error"] is None
        assert found["coverage"] == wanted["coverage"]
        assert [(m["start"], m["end"], m["label"]) for m in found["mentions"]] == [
            (m["start"], m["end"], m["label"]) for m in wanted["mentions"]
        ]


LABELLED = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())]))


@pytest.mark.parametrize(
    ("heads", "label"),
    [
        ([{"head": "types", "spans": "given"}], "GOLD"),
        ([{"head": "relations", "pairs": "given"}], "GOLD"),
        ([{"head": "ner", "spans": "all"}, {"head": "types"}], None),
        ([{"head": "ner", "spans": "given"}, {"head": "types", "spans": ["given", "previous"]}], None),
    ],
)
def test_given_labels_never_pass_for_predictions(
    multi_head_folder: Path, heads: list[dict[str, Any]], label: str | None
) -> None:
    """A given label is written where the job has no `ner` head, and nowhere else."""
    given = pa.array([[{"start": 0, "end": 11, "label": "GOLD"}, {"start": 0, "end": 11, "label": None}]], LABELLED)
    rows = table(TEXT).set_column(2, "given", given)
    mentions = Annotator.from_config(config(multi_head_folder, heads)).annotate(rows)["mentions"][0].as_py()
    assert {m["label"] for m in mentions if m["label"] == "GOLD"} == ({label} if label else set())


def test_columns_that_this_job_does_not_write_are_the_sources(multi_head_folder: Path) -> None:
    """A pass-through column named like an annotation is not read as one, whatever its type."""
    rows = table(TEXT).append_column("relations", pa.array([[{"head": 0, "tail": 1, "label": "x"}]]))
    rows = rows.append_column("text_embedding", pa.array(["none"]))
    result = Annotator.from_config(config(multi_head_folder, [{"head": "ner"}])).annotate(rows)
    assert result["error"].null_count == 1
    assert result["relations"].equals(rows["relations"])
    assert result["text_embedding"].to_pylist() == ["none"]


def test_columns_renamed_by_an_earlier_job_are_not_taken_for_renamed(multi_head_folder: Path) -> None:
    """The output of one job can be the input of the next."""
    rows = table(TEXT, given=[spans(*GIVEN)]).rename_columns(["id", "text", "given", "mentions"])
    job = config(multi_head_folder, [{"head": "ner", "spans": "all"}], input={})
    first = Annotator.from_config(job).annotate(rows)
    assert renamed_columns(first.schema) == {"mentions": "source_mentions"}
    again = rename_collisions(first.drop_columns(["mentions"]), {"sentences"})
    assert renamed_columns(again.schema) == {"sentences": "source_sentences"}


def test_long_given_mentions_are_counted_as_clipped(multi_head_folder: Path) -> None:
    """Only the first tokens of a very long mention have positions; every head that reads it says so."""
    text = " ".join(f"Word{i}" for i in range(60))
    heads = [
        {"head": "ner", "spans": "given"},
        {"head": "types"},
        {"head": "embeddings", "of": "mentions"},
    ]
    job = config(multi_head_folder, heads)
    row = Annotator.from_config(job).annotate(table(text, given=[spans((0, len(text)))])).to_pylist()[0]
    assert row["coverage"]["dropped"] == [{"reason": "clipped_mention", "count": 3}]


def test_given_pairs_are_read_in_their_own_order(multi_head_folder: Path) -> None:
    """`pairs: given` reads exactly the listed pairs, also across sentences; overlapping ones are counted."""
    job = config(
        multi_head_folder,
        [{"head": "relations", "spans": "given", "pairs": "given", "multi_label": True, "threshold": 1e-6}],
    )
    pairs = [{"head": 3, "tail": 0}, {"head": 0, "tail": 1}, {"head": 0, "tail": 4}, {"head": 3, "tail": 0}]
    result = Annotator.from_config(job).annotate(table(TEXT, given=[spans(*GIVEN, (6, 11))], pairs=[pairs]))
    check(result)
    mentions = result["mentions"][0].as_py()
    read = {(mentions[r["head"]]["text"], mentions[r["tail"]]["text"]) for r in result["relations"][0].as_py()}
    assert read == {("Pierre Curie", "Marie Curie"), ("Marie Curie", "Warsaw")}
    dropped = {d["reason"]: d["count"] for d in result["coverage"][0].as_py()["dropped"]}
    assert dropped == {"overlapping_pair": 1, "repeated_pair": 1}


def test_invalid_utf8_fails_its_document_alone(multi_head_folder: Path) -> None:
    """Arrow reads broken text without complaint; the document says so, its neighbours are annotated."""
    offsets = pa.py_buffer(np.array([0, 3, 6], np.int32).tobytes())
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"abc\xff\xfe\xfd")])
    rows = table("", "").set_column(1, "text", texts)
    result = Annotator.from_config(config(multi_head_folder, ALL_HEADS)).annotate(rows)
    assert result["error"][0].as_py() is None
    assert result["error"][1].as_py()["stage"] == "read"
    assert "UTF-8" in result["error"][1].as_py()["message"]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_every_kind_of_text_column_gives_the_same(kind: pa.DataType, multi_head_folder: Path) -> None:
    """string, large_string, string_view and dictionary columns are equal to users, and keep their type."""
    annotator = Annotator.from_config(config(multi_head_folder, ALL_HEADS))
    plain = table(TEXT, None, TEXT)
    texts = plain["text"].combine_chunks()
    other = texts.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else texts.cast(kind)
    result = annotator.annotate(plain.set_column(1, "text", other))
    assert result.schema.field("text").type == kind
    assert result["mentions"].equals(annotator.annotate(plain)["mentions"])


def test_input_columns_with_our_names_are_kept_under_another(multi_head_folder: Path) -> None:
    """`mentions` of the input becomes `source_mentions`, and can still be the column of given mentions."""
    rows = table(TEXT, given=[spans(*GIVEN)]).rename_columns(["id", "text", "mentions", "error"])
    job = JobConfig.model_validate(
        {
            "input": {"mentions_column": "mentions"},
            "models": {"main": {"path": str(multi_head_folder)}},
            "heads": [{"head": "ner", "spans": "given"}],
        }
    )
    result = Annotator.from_config(job).annotate(rows)
    assert result.column_names[:4] == ["id", "text", "source_mentions", "source_error"]
    assert [(m["start"], m["end"]) for m in result["mentions"][0].as_py()] == GIVEN
    assert result["source_mentions"][0].as_py() == spans(*GIVEN)


def test_gazetteer_mentions_reach_the_heads(multi_head_folder: Path, tmp_path: Path) -> None:
    """Names of a table are proposed where they stand as words, and are embedded without any NER."""
    names = tmp_path / "names.csv"
    names.write_text("name\nWarsaw\nMarie Curie\nari\n")
    job = config(
        multi_head_folder,
        [{"head": "embeddings", "spans": "gazetteer", "of": "mentions"}],
        proposers={"gazetteer": {"path": str(names)}},
    )
    result = Annotator.from_config(job).annotate(table(TEXT))
    check(result)
    assert [m["text"] for m in result["mentions"][0].as_py()] == ["Marie Curie", "Warsaw"]
    assert result["mention_embeddings"].null_count == 0


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(kind="mluke", entity_aware=False)])
def test_vectors_equal_those_of_transformers(recipe: Recipe, checkpoint_folder: Callable[[Recipe], Path]) -> None:
    """Mention vectors are LukeModel's entity states, the text vector is the mean of its word states."""
    folder = checkpoint_folder(recipe)
    text = TEXT[:31]
    job = config(folder, [{"head": "embeddings", "spans": "given"}])
    result = Annotator.from_config(job).annotate(table(text, given=[spans(*GIVEN[:2])]))
    model = transformers.LukeModel.from_pretrained(folder).eval()
    builder = InputBuilder(Tokenizer.load(folder))
    nothing = np.empty(0, np.int32)
    window = builder.mention_window(builder.tokenize(text, np.array(GIVEN[:2], np.int32)), nothing, nothing)
    batch = pad([window], 1, 30)
    with torch.inference_mode():
        states = model(
            input_ids=torch.from_numpy(batch.input_ids),
            entity_ids=torch.from_numpy(batch.entity_ids),
            entity_position_ids=torch.from_numpy(batch.entity_position_ids),
            entity_attention_mask=torch.ones(1, 2, dtype=torch.long),
        ).entity_last_hidden_state[0]
        ids = builder.tokenize(text, np.empty((0, 2), np.int32)).ids
        words = model(torch.tensor([[0, *ids.tolist(), 2]])).last_hidden_state[0, 1:-1]
    vectors = np.array(result["mention_embeddings"][0].as_py())
    assert vectors.shape == (2, HIDDEN)
    np.testing.assert_allclose(vectors, states.numpy(), atol=1e-4)
    np.testing.assert_allclose(result["text_embedding"][0].as_py(), words.mean(0).numpy(), atol=1e-4)


def test_half_precision_vectors_and_separate_passes(multi_head_folder: Path) -> None:
    """`dtype: float16` changes the column's type; `joint: false` reads each mention alone."""
    heads = {"head": "embeddings", "spans": "given", "of": "mentions"}
    rows = table(TEXT, given=[spans(*GIVEN)])
    joint = Annotator.from_config(config(multi_head_folder, [heads])).annotate(rows)
    apart = Annotator.from_config(config(multi_head_folder, [{**heads, "joint": False, "dtype": "float16"}])).annotate(
        rows
    )
    assert apart.schema.field("mention_embeddings").type == pa.list_(pa.list_(pa.float16(), HIDDEN))
    assert joint["coverage"][0].as_py()["windows"] == 2
    assert apart["coverage"][0].as_py()["windows"] == len(GIVEN)
    assert apart["mention_embeddings"].null_count == 0


def test_long_documents_lose_nothing_silently(multi_head_folder: Path) -> None:
    """A text of many windows with given mentions everywhere: each gets a label, types and a vector."""
    text = " ".join(f"Name{i} met Other{i} in Town{i}." for i in range(100))
    words = [w for w in text.split(" ") if w.startswith("Town")]
    starts = [text.index(w) for w in words]
    given = spans(*((s, s + len(w) - 1) for s, w in zip(starts, words, strict=True)))
    job = config(
        multi_head_folder,
        [
            {"head": "ner", "spans": "given", "context": "document"},
            {"head": "types"},
            {"head": "embeddings"},
        ],
    )
    result = Annotator.from_config(job).annotate(table(text, given=[given]))
    check(result)
    row = result.to_pylist()[0]
    assert len(row["mentions"]) == len(given)
    assert all(m["types"] is not None for m in row["mentions"])
    assert None not in row["mention_embeddings"]
    assert row["coverage"]["dropped"] == []
    assert row["coverage"]["spans_scored"] == 3 * len(given)


def test_a_text_of_3000_tokens_gives_what_its_sentences_give(multi_head_folder: Path) -> None:
    """Mentions, types, relations and vectors of every sentence are those of the sentence alone."""
    sentences = [f"Marie{i} met Pierre in Town{i % 7} and Warsaw." for i in range(150)]
    heads: list[dict[str, Any]] = [
        {"head": "ner"},
        {"head": "types"},
        {"head": "relations", "threshold": 0.2},
        {"head": "embeddings", "of": "mentions"},
    ]
    annotator = Annotator.from_config(config(multi_head_folder, heads))
    (whole,) = annotator.annotate(table(" ".join(sentences))).to_pylist()
    alone = annotator.annotate(table(*sentences)).to_pylist()
    assert whole["coverage"]["tokens"] == sum(row["coverage"]["tokens"] for row in alone) >= 3000
    assert len(whole["sentences"]) == len(sentences)
    found = iter(zip(whole["mentions"], whole["mention_embeddings"], strict=True))
    first = start = 0
    relations: list[dict[str, Any]] = []
    for row, sentence in zip(alone, sentences, strict=True):
        for mention, vector in zip(row["mentions"], row["mention_embeddings"], strict=True):
            same, other = next(found)
            assert (same["start"] - start, same["text"], same["label"]) == (
                *(mention["start"], mention["text"], mention["label"]),
            )
            assert same["score"] == pytest.approx(mention["score"], abs=1e-5)
            assert [item["label"] for item in same["types"]] == [item["label"] for item in mention["types"]]
            assert other == pytest.approx(vector, abs=1e-4)
        relations += [{**item, "head": item["head"] + first, "tail": item["tail"] + first} for item in row["relations"]]
        first += len(row["mentions"])
        start += len(sentence) + 1
    assert next(found, None) is None
    assert first
    pairs = [(item["head"], item["tail"], item["label"]) for item in whole["relations"]]
    assert pairs == [(item["head"], item["tail"], item["label"]) for item in relations]
    assert pairs


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (pa.table({"id": ["a"], "body": ["x"]}), "no column 'text'"),
        (pa.table({"id": ["a"], "text": [b"x"]}), "is binary"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(multi_head_folder: Path, rows: pa.Table, said: str) -> None:
    """A missing or binary text column is one clear error, as it is for a corpus."""
    annotator = Annotator.from_config(config(multi_head_folder, [{"head": "ner"}], input={}))
    with pytest.raises(InputError, match=said):
        annotator.annotate(rows)


def test_heads_on_one_checkpoint_share_a_stage(multi_head_folder: Path) -> None:
    """Consecutive heads on one model are one stage; another model in between makes three."""
    job = JobConfig.model_validate(
        {
            "models": {"other": {"path": str(multi_head_folder)}},
            "heads": [
                {"head": "ner"},
                {"head": "types"},
                {"head": "relations", "model": "other"},
                {"head": "embeddings"},
            ],
        }
    )
    assert [spec.heads for spec in model_stages(job)] == [(0, 1), (2,), (3,)]


def test_models_are_checked_before_any_work(
    multi_head_folder: Path, checkpoint_folder: Callable[[Recipe], Path]
) -> None:
    """A checkpoint without the head, and a label that it lacks, are refused by name."""
    ner = checkpoint_folder(with_head("ner", Recipe()))
    with pytest.raises(CheckpointError, match="has no relations head"):
        check_models(config(ner, [{"head": "ner"}, {"head": "relations"}]))
    with pytest.raises(ConfigError, match="no label 'O'"):
        check_models(config(ner, [{"head": "ner", "none_label": "O"}]))
    found = check_models(config(multi_head_folder, ALL_HEADS))
    assert found == {str(multi_head_folder): resolve(str(multi_head_folder))}


def test_workers_load_what_was_planned(
    multi_head_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pinned job finds its checkpoint from any directory, and refuses one that was changed meanwhile."""
    folder = Path(shutil.copytree(multi_head_folder, tmp_path / "org" / "model"))
    monkeypatch.chdir(tmp_path)
    job = config(Path("org/model"), [{"head": "ner"}, {"head": "types", "model": "./org/model"}])
    fixed = pinned(job, check_models(job))
    (spec,) = model_stages(fixed)
    assert (spec.model.path, spec.heads) == (str(folder), (0, 1))
    monkeypatch.chdir("/")
    ModelStage(fixed, spec, "cpu")
    with (folder / "entity_vocab.json").open("a") as file:
        file.write(" ")
    with pytest.raises(CheckpointError, match=r"have the content hash \w{64}, not \w{64} as planned"):
        ModelStage(fixed, spec, "cpu")


def test_types_of_two_heads_unite(multi_head_folder: Path) -> None:
    """Labels of both, each once, the likeliest first; a head that finds none takes none away."""
    everything: dict[str, Any] = {"head": "types", "spans": "given", "threshold": 0.001}
    nothing = {**everything, "threshold": 0.999}
    table_of_one = table(TEXT, given=[spans(*GIVEN)])
    alone, both = (
        Annotator.from_config(config(multi_head_folder, heads)).annotate(table_of_one)["mentions"][0].as_py()
        for heads in ([everything], [everything, nothing])
    )
    assert [mention["types"] for mention in both] == [mention["types"] for mention in alone]
    assert any(mention["types"] for mention in both)


def test_empty_lists_of_no_type_are_no_mentions(multi_head_folder: Path) -> None:
    """Pyarrow makes list<null> of a column whose lists are all empty."""
    rows = pa.table({"text": [TEXT], "given": pa.array([[]]), "pairs": pa.array([[]])})
    job = config(multi_head_folder, [{"head": "types", "spans": "given"}])
    (row,) = Annotator.from_config(job).annotate(rows).to_pylist()
    assert row["error"] is None
    assert row["mentions"] == []
