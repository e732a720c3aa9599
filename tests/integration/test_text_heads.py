"""Four checkpoints of four classes in one run on Ray: the heads that look at whole texts."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from luke_batch import Annotator, JobConfig
from luke_batch.distributed.run import annotate
from luke_batch.heads.placed_text import PlacedText
from luke_batch.text.words import words
from tests.checkpoints import LABELS, Recipe, make, with_head
from tests.corpora import put
from tests.integration.conftest import approximately, read_data, sorted_rows
from tests.text_heads import LONG, SHORT, Reference, softmax

pytestmark = pytest.mark.usefixtures("ray_session")

COLUMNS = ("sequence", "tokens", "answers", "choice", "coverage")
QUESTION = "Where was Marie Curie born?"
OPTIONS = ["in Warsaw", "in Paris"]
HEADS: tuple[dict[str, Any], ...] = (
    {"head": "sequence"},
    {"head": "tokens"},
    {"head": "qa", "question_column": "question"},
    {"head": "choice", "candidates_column": "options"},
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small checkpoint of each class, two of LUKE and two of mLUKE."""
    recipes = {head: Recipe() for head in ("sequence", "qa")}
    recipes |= {head: Recipe(kind="mluke") for head in ("tokens", "choice")}
    return {head: make(tmp_path_factory.mktemp(head), with_head(head, recipe)) for head, recipe in recipes.items()}


def job(folders: dict[str, Path], engine: str) -> JobConfig:
    """Four heads, each on a model of its own."""
    models = {
        head: {"path": str(folder), "engine": engine, "actors": 1, "num_cpus": 0.25} for head, folder in folders.items()
    }
    heads = [{**head, "model": head["head"]} for head in HEADS]
    return JobConfig.model_validate({"models": models, "heads": heads, "output": {"max_rows": 3}})


def documents() -> pa.Table:
    """A text that fits, a long one, and texts or columns with nothing in them."""
    return pa.table(
        {
            "id": ["short", "long", "null", "blank", "nothing asked"],
            "text": [SHORT, LONG, None, " \n", SHORT],
            "question": [QUESTION, QUESTION, QUESTION, QUESTION, None],
            "options": pa.array([OPTIONS, OPTIONS, OPTIONS, OPTIONS, [None]], pa.list_(pa.string())),
        }
    )


@pytest.mark.parametrize("engine", ["fast", "transformers"])
def test_a_run_equals_transformers_and_the_annotator(engine: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """From files to files: the labels, spans, answers and choices of transformers' classes on the same text,
    and for every row what the Annotator makes of it in one process.
    """
    put(tmp_path / "in", "documents.parquet", documents())
    config = job(folders, engine)
    report = annotate(str(tmp_path / "in"), str(tmp_path / "out"), config, quiet=True)
    assert report.outcome.dead_documents == 0
    found = read_data(tmp_path / "out")
    expected = Annotator.from_config(config).annotate(documents())
    columns = ["id", *COLUMNS]
    rows = sorted_rows(found.select(columns))
    assert rows == [approximately(row) for row in sorted_rows(expected.select(columns))]

    by_id = {row["id"]: row for row in rows}
    _assert_reference(by_id["short"], folders)
    assert by_id["long"]["coverage"]["windows"] > 4 * 6
    assert by_id["long"]["coverage"]["dropped"] == []
    for name in ("null", "blank"):
        empty = by_id[name]
        assert (empty["sequence"], empty["tokens"], empty["choice"]) == ([], [], None)
        assert [answer["start"] for answer in empty["answers"]] == [None]
    nothing = by_id["nothing asked"]
    assert (nothing["answers"], nothing["choice"]) == ([], None)
    assert nothing["sequence"] == approximately(by_id["short"]["sequence"])


def _assert_reference(row: dict[str, Any], folders: dict[str, Path]) -> None:
    """What transformers' classes say to SHORT, which fits into one window."""
    references = {head: Reference(folder, head) for head, folder in folders.items()}
    ids = {head: reference.ids(SHORT) for head, reference in references.items()}

    logits = references["sequence"](ids["sequence"])
    (label,) = row["sequence"]
    assert label["label"] == LABELS["sequence"][int(logits.argmax())]
    assert label["score"] == pytest.approx(float(softmax(logits).max()), abs=1e-4)

    placed = PlacedText.of(references["tokens"].tokenizer, SHORT)
    spans = words(SHORT, None)
    best = references["tokens"](ids["tokens"])[1:-1][placed.first_tokens(spans)].argmax(axis=1)
    labelled = {tuple(span): LABELS["tokens"][n] for span, n in zip(spans.tolist(), best, strict=True)}
    inside = {
        (start, end): found["label"]
        for start, end in labelled
        for found in row["tokens"]
        if found["start"] <= start < end <= found["end"]
    }
    assert inside == {span: name[2:] for span, name in labelled.items() if name != "O"}

    asked = references["qa"].ids(QUESTION)
    logits = references["qa"](asked, ids["qa"])[len(asked) + 3 : -1]
    sums = logits[:, :1] + logits[:, 1][None, :]
    length = np.arange(len(sums))[None, :] - np.arange(len(sums))[:, None]
    first, last = np.unravel_index(np.where((length >= 0) & (length < 30), sums, -np.inf).argmax(), sums.shape)
    characters = PlacedText.of(references["qa"].tokenizer, SHORT).characters
    (answer,) = row["answers"]
    assert (answer["start"], answer["end"]) == (characters[first, 0], characters[last, 1])

    read = [references["choice"](ids["choice"], references["choice"].ids(option))[0] for option in OPTIONS]
    assert row["choice"]["scores"] == pytest.approx(softmax(np.array(read)).tolist(), abs=1e-4)
    assert row["choice"]["text"] == OPTIONS[int(np.argmax(read))]
