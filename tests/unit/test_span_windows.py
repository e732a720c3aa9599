"""Which spans the ner head looks at, and which of them share windows."""

from collections import Counter
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luke_batch import Annotator, JobConfig
from luke_batch.annotate.annotator import ModelStage, model_stages
from luke_batch.annotate.preparation import Preparation
from luke_batch.base.arrays import FloatArray
from luke_batch.config import ModelConfig
from luke_batch.model.engine.engine import Engine, Task, load_engine
from luke_batch.model.engine.span_scorer import SpanScorer
from luke_batch.model.files.checkpoint import Checkpoint, resolve
from luke_batch.model.inputs.windows import InputBuilder, Window
from luke_batch.text.words import all_spans, words
from luke_batch.training.span_scorer import span_least
from tests.checkpoints import TOKENIZERS, add_span_scorer, make_multi_head

TEXT = "Ada Lovelace met Charles Babbage in London. He lived there, they say."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a scorer."""
    made = make_multi_head(tmp_path_factory.mktemp("scorer") / "model")
    return add_span_scorer(made, 0.5)


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
        self.windows += windows if task == Task.NER else []
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
        (window.token_ids.tobytes(), tuple(map(tuple, window.entity_spans.tolist()))) for window in recorders[0].windows
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
    """On every eighth document of the embedded corpus, in twelve languages: at least 98.5% of its mentions
    (99.8% of those of the dev sets), and the scores of those that both find are the same.
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
