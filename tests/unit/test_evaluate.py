"""Scores of annotations against gold: equal to counting with Python sets, for every task."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from luke_batch.base.contracts import load_contract
from luke_batch.base.errors import InputError, MissingDependencyError
from luke_batch.evaluation import calibration
from luke_batch.evaluation.evaluate import Evaluation, evaluate
from luke_batch.evaluation.scores import LabelScore
from luke_batch.evaluation.summary import print_evaluation
from luke_batch.evaluation.tables import Task
from tests.corpora import put

Rows = list[dict[str, Any]]
Item = tuple[str, tuple[int, ...], str]
"""Document, place, label."""

_LENGTH = 6
_LABELS = st.sampled_from(["A", "B, C", "D"])
_CONTRACT = load_contract("annotations")
_SPAN_TYPE = [("start", pa.int32()), ("end", pa.int32())]
_GOLD_TYPES = {
    "id": pa.string(),
    "text": pa.string(),
    "entities": pa.list_(pa.struct([*_SPAN_TYPE, ("label", pa.string())])),
    "relations": pa.list_(pa.struct([("head", pa.int32()), ("tail", pa.int32()), ("label", pa.string())])),
    "links": pa.list_(pa.struct([*_SPAN_TYPE, ("title", pa.string()), ("qid", pa.string())])),
}
_FOUND_TYPES = {
    "id": pa.string(),
    "text": pa.string(),
    "mentions": _CONTRACT.field("mentions").type,
    "relations": _CONTRACT.field("relations").type,
}


def _table(rows: Rows, types: dict[str, pa.DataType]) -> pa.Table:
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in types.items()})


def _evaluate(
    folder: Path, gold: Rows, found: Rows, task: Task, labels: Sequence[str] = (), **options: Any
) -> Evaluation:
    gold_file = put(folder, "gold.parquet", _table(gold, _GOLD_TYPES))
    found_file = put(folder, "found.parquet", _table(found, _FOUND_TYPES))
    options = {"resamples": 0, **options}
    return evaluate(str(gold_file), str(found_file), task, labels, **options)


@st.composite
def _spans(draw: st.DrawFn) -> dict[str, int]:
    start = draw(st.integers(0, _LENGTH - 2))
    return {"start": start, "end": draw(st.integers(start + 1, min(start + 2, _LENGTH - 1)))}


@st.composite
def _documents(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A document as GOLD and as ANNOTATED have it."""
    entities = [{**draw(_spans()), "label": draw(_LABELS)} for _ in range(draw(st.integers(0, 4)))]
    links = [{**draw(_spans()), "title": draw(_LABELS)} for _ in range(draw(st.integers(0, 3)))]
    scores = st.floats(0, 1, width=32)
    mentions = [
        {
            **draw(_spans()),
            "label": draw(st.none() | _LABELS),
            "score": draw(scores),
            "types": draw(st.none() | st.lists(st.fixed_dictionaries({"label": _LABELS, "score": scores}), max_size=3)),
            "title": draw(st.none() | _LABELS),
        }
        for _ in range(draw(st.integers(0, 4)))
    ]
    gold = {"entities": entities, "links": links, "relations": _relations(draw, len(entities))}
    return gold, {"mentions": mentions, "relations": _relations(draw, len(mentions))}


def _relations(draw: st.DrawFn, count: int) -> Rows:
    if not count:
        return []
    ends = st.integers(0, count - 1)
    relation = st.fixed_dictionaries(
        {"head": ends, "tail": ends, "label": _LABELS, "score": st.sampled_from([0.25, 0.5, 0.75])}
    )
    return draw(st.lists(relation, max_size=3))


def _span(entry: dict[str, Any]) -> tuple[int, int]:
    return entry["start"], entry["end"]


def _gold_items(row: dict[str, Any], task: Task) -> set[Item]:
    entities = row["entities"]
    if task == "links":
        return {(row["id"], _span(link), link["title"]) for link in row["links"]}
    if task == "relations":
        return {
            (row["id"], _span(entities[r["head"]]) + _span(entities[r["tail"]]), r["label"]) for r in row["relations"]
        }
    return {(row["id"], _span(entity), entity["label"]) for entity in entities}


def _found_items(row: dict[str, Any], task: Task) -> set[Item]:
    mentions = row["mentions"]
    if task == "relations":
        return {
            (row["id"], _span(mentions[r["head"]]) + _span(mentions[r["tail"]]), r["label"]) for r in row["relations"]
        }
    if task == "types":
        return {(row["id"], _span(m), t["label"]) for m in mentions for t in m["types"] or ()}
    member = "label" if task == "ner" else "title"
    return {(row["id"], _span(m), m[member]) for m in mentions if m[member] is not None}


def _score(gold: set[Item], found: set[Item]) -> tuple[float, float, float, int]:
    right = len(gold & found)
    precision = right / len(found) if found else 0.0
    recall = right / len(gold) if gold else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0, len(gold)


def _figures(score: LabelScore) -> tuple[float, float, float, int]:
    return score.precision, score.recall, score.f1, score.support


def _close(values: tuple[float, ...]) -> Any:
    return pytest.approx(values, abs=1e-12)


@settings(max_examples=60)
@given(
    st.lists(_documents(), min_size=1, max_size=4),
    st.sampled_from(["ner", "types", "relations", "links"]),
    st.sets(st.integers(0, 3)),
)
def test_scores_are_those_of_sets(
    documents: list[tuple[dict[str, Any], dict[str, Any]]], task: Task, missing: set[int]
) -> None:
    """Micro, macro and every label, with overlapping, repeated, unlabelled and missing mentions, equal what
    sets of (document, place, label) give.
    """
    gold_rows = [{"id": f"d{n}", "text": "x" * _LENGTH, **gold} for n, (gold, _) in enumerate(documents)]
    found_rows = [
        {"id": f"d{n}", "text": "x" * _LENGTH, **found} for n, (_, found) in enumerate(documents) if n not in missing
    ]
    gold = set[Item]().union(*(_gold_items(row, task) for row in gold_rows))
    found = set[Item]().union(*(_found_items(row, task) for row in found_rows))
    scored = {label for *_, label in gold | (found if task == "links" else set())}
    found = {item for item in found if item[2] in scored}
    if task == "types":
        found = {item for item in found if item[:2] in {place[:2] for place in gold}}
    with TemporaryDirectory() as folder:
        if not gold or not found_rows:
            with pytest.raises(InputError, match=r"nothing to score|has no row"):
                _evaluate(Path(folder), gold_rows, found_rows, task)
            return
        result = _evaluate(Path(folder), gold_rows, found_rows, task)
    each = {label: _score({i for i in gold if i[2] == label}, {i for i in found if i[2] == label}) for label in scored}
    assert _figures(result.scores.micro) == _close(_score(gold, found))
    assert {label: _figures(score) for label, score in result.scores.labels.items()} == {
        label: _close(values) for label, values in each.items()
    }
    means = np.mean(list(each.values()), axis=0)[:3]
    assert _figures(result.scores.macro) == _close((*means, len(gold)))
    assert result.missing == len(missing & set(range(len(documents))))


def _mention(start: int, end: int, label: str | None = None, **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label, **more}


def _row(id: str, **columns: Any) -> dict[str, Any]:
    return {"id": id, "text": "Ada met Bob.", "entities": [], "relations": [], "links": [], **columns}


def _types(*scores: tuple[str, float]) -> Rows:
    return [{"label": label, "score": score} for label, score in scores]


def test_accuracy_of_types_is_that_of_the_best_type_at_gold_spans(tmp_path: Path) -> None:
    """The type with the highest score counts, wherever it stands; a span without mention or type is wrong;
    mentions at other spans do not matter.
    """
    gold = [
        _row("a", entities=[_mention(0, 3, "poet"), _mention(8, 11, "cook")]),
        _row("b", entities=[_mention(0, 3, "poet"), _mention(8, 11, "cook"), _mention(4, 7, "cook")]),
    ]
    found = [
        _row(
            "a",
            mentions=[
                _mention(0, 3, types=_types(("cook", 0.4), ("poet", 0.9))),
                _mention(4, 7, types=_types(("cook", 1.0))),
                _mention(8, 11, types=_types(("cook", 0.4), ("poet", 0.9))),
            ],
        ),
        _row("b", mentions=[_mention(0, 3, types=_types(("king", 0.9), ("poet", 0.2))), _mention(8, 11)]),
    ]
    result = _evaluate(tmp_path, gold, found, "types")
    assert result.scores.accuracy == pytest.approx(1 / 5)  # `king` is best, though it is not scored
    assert result.scores.micro.precision == pytest.approx(3 / 5)
    assert _evaluate(tmp_path, gold, found, "types", ["poet"]).scores.accuracy == pytest.approx(1 / 2)


def test_accuracy_of_relations_is_that_of_the_best_scored_label_of_each_pair(tmp_path: Path) -> None:
    """Compared by spans, not by indices; labels that are not scored are passed over; a pair without one is
    wrong, and so is the pair turned round.
    """
    entities = [_mention(8, 11, "X"), _mention(0, 3, "X")]
    mentions = [_mention(0, 3), _mention(8, 11)]
    relation = {"head": 0, "tail": 1}
    gold = [
        _row(id, entities=entities, relations=[{**relation, "label": label}])
        for id, label in (("a", "knows"), ("b", "likes"), ("c", "likes"), ("d", "likes"))
    ]
    turned = {"head": 1, "tail": 0}
    found = [
        _row(
            "a",
            mentions=mentions,
            relations=[
                {**turned, "label": "likes", "score": 0.2},
                {**turned, "label": "knows", "score": 0.3},
                {**turned, "label": "elsewhere", "score": 0.9},
            ],
        ),
        _row("b", mentions=mentions, relations=[{**relation, "label": "likes", "score": 0.9}]),
        _row("c", mentions=mentions, relations=[{**turned, "label": "likes", "score": 0.1}]),
        _row("d", mentions=mentions, relations=[{**turned, "label": "elsewhere", "score": 0.1}]),
    ]
    assert _evaluate(tmp_path, gold, found, "relations").scores.accuracy == pytest.approx(2 / 4)


@pytest.mark.parametrize("labels", [["knows", "likes"], []])
def test_relations_of_open_pairs_have_no_accuracy(tmp_path: Path, labels: list[str]) -> None:
    """A pair with two labels, or a document without relations: there is no best label to be judged by."""
    relations = [{"head": 0, "tail": 1, "label": label} for label in labels]
    entities = [_mention(0, 3, "X"), _mention(8, 11, "X")]
    one = [{"head": 0, "tail": 1, "label": "knows"}]
    gold = [_row("a", entities=entities, relations=relations), _row("b", entities=entities, relations=one)]
    result = _evaluate(tmp_path, gold, [_row("a", mentions=[])], "relations")
    assert result.scores.accuracy is None


def test_a_wrong_title_lowers_precision_although_gold_has_it_nowhere(tmp_path: Path) -> None:
    """Titles are no closed set of labels; with --labels only those count."""
    gold = [_row("a", links=[{"start": 0, "end": 3, "title": "Ada Lovelace"}])]
    found = [_row("a", mentions=[_mention(0, 3, title="Ada, Ohio"), _mention(8, 11, title="Bob, Ohio")])]
    assert _evaluate(tmp_path, gold, found, "links").to_dict()["labels"].keys() == {
        "Ada Lovelace",
        "Ada, Ohio",
        "Bob, Ohio",
    }
    chosen = _evaluate(tmp_path, gold, found, "links", ["Ada Lovelace", "Bob, Ohio"])
    assert chosen.scores.micro == LabelScore(0.0, 0.0, 0.0, 1)
    assert set(chosen.scores.labels) == {"Ada Lovelace", "Bob, Ohio"}


def test_predictions_whose_labels_gold_lacks_are_said(tmp_path: Path) -> None:
    """In the table and in JSON. Before, nothing was said, and half of the predictions here counted nowhere."""
    gold = [_row("a", entities=[_mention(0, 3, "PER")])]
    found = [_row("a", mentions=[_mention(0, 3, "PER"), _mention(8, 11, "B-PER"), _mention(12, 14, "DATE")])]
    result = _evaluate(tmp_path, gold, found, "ner")
    assert result.to_dict()["unscored"] == {"B-PER": 1, "DATE": 1}
    console = Console(width=200, record=True, file=StringIO())
    print_evaluation(result, console)
    assert "2 predictions are left out: GOLD has none of their labels (B-PER, DATE)" in console.export_text()
    assert result.scores.micro == LabelScore(1.0, 1.0, 1.0, 1)
    assert _evaluate(tmp_path, gold, found, "ner", ["PER", "DATE"]).unscored == {}


def test_types_elsewhere_are_no_predictions(tmp_path: Path) -> None:
    """Those at other spans than gold's are the business of ner, and not counted as left out."""
    gold = [_row("a", entities=[_mention(0, 3, "person")])]
    found = [
        _row("a", mentions=[_mention(0, 3, types=_types(("city", 0.9))), _mention(8, 9, types=_types(("x", 0.9)))])
    ]
    assert _evaluate(tmp_path, gold, found, "types").unscored == {"city": 1}


def test_a_score_of_infinity_is_none(tmp_path: Path) -> None:
    """JSON has no Infinity; before, the calibration error was one."""
    gold = [_row("a", entities=[_mention(0, 3, "PER"), _mention(4, 5, "PER")])]
    found = [_row("a", mentions=[_mention(0, 3, "PER", score=float("inf")), _mention(4, 5, "PER", score=0.5)])]
    assert _evaluate(tmp_path, gold, found, "ner").calibration_error == pytest.approx(0.5)


def test_the_calibration_error_is_over_emitted_items(tmp_path: Path) -> None:
    """Two mentions at 0.8, one right: |0.8 - 0.5|. Others have no score or no scored label."""
    gold = [_row("a", entities=[_mention(0, 3, "PER")])]
    mentions = [
        _mention(0, 3, "PER", score=0.8),
        _mention(4, 7, "PER", score=0.8),
        _mention(8, 11, "PER"),
        _mention(0, 1, "LOC", score=0.1),
    ]
    result = _evaluate(tmp_path, gold, [_row("a", mentions=mentions)], "ner")
    assert result.calibration_error == pytest.approx(0.3, abs=1e-6)
    bare = [_row("a", mentions=[_mention(0, 3, "PER")])]
    assert _evaluate(tmp_path, gold, bare, "ner").calibration_error is None


def _many(count: int) -> tuple[Rows, Rows]:
    random = np.random.default_rng(0)
    entity = _mention(0, 3, "PER", score=0.5)
    gold = [_row(f"d{n}", entities=[entity] * int(random.random() < 0.7)) for n in range(count)]
    found = [_row(f"d{n}", mentions=[entity] * int(random.random() < 0.7)) for n in range(count)]
    return gold, found


def test_intervals_are_seeded_and_hold_the_score(tmp_path: Path) -> None:
    """One seed, one result; 95% of the resamples lie around the score, closer with more documents."""
    gold, found = _many(400)
    first = _evaluate(tmp_path, gold, found, "ner", resamples=300)
    again = _evaluate(tmp_path, gold, found, "ner", resamples=300)
    other = _evaluate(tmp_path, gold, found, "ner", resamples=300, seed=1)
    few = _evaluate(tmp_path, gold[:40], found[:40], "ner", resamples=300)
    assert first.intervals == again.intervals != other.intervals
    assert first.intervals is not None
    assert few.intervals is not None
    low, high = first.intervals.micro["f1"]
    assert low < first.scores.micro.f1 < high
    assert high - low < 0.1 < few.intervals.micro["f1"][1] - few.intervals.micro["f1"][0]
    assert first.intervals.labels["PER"] == first.intervals.macro["f1"] == pytest.approx((low, high))


def test_the_interval_of_a_recall_is_that_of_a_share(tmp_path: Path) -> None:
    """One gold mention a document, half of them found: recall varies as a mean of 400 coin tosses does."""
    entity = _mention(0, 3, "PER")
    gold = [_row(f"d{n}", entities=[entity]) for n in range(400)]
    found = [_row(f"d{n}", mentions=[entity] * (n % 2)) for n in range(400)]
    result = _evaluate(tmp_path, gold, found, "ner", resamples=2000)
    assert result.intervals is not None
    assert result.intervals.micro["recall"] == pytest.approx((0.5 - 0.049, 0.5 + 0.049), abs=0.008)
    assert result.intervals.micro["precision"] == (1.0, 1.0)


@pytest.mark.parametrize(("documents", "resamples"), [(1, 100), (5, 0)])
def test_one_document_or_no_resample_has_no_intervals(tmp_path: Path, documents: int, resamples: int) -> None:
    """There is nothing to resample: null, and no warning."""
    gold = [_row(f"d{n}", entities=[_mention(0, 3, "PER")]) for n in range(documents)]
    result = _evaluate(tmp_path, gold, [_row("d0", mentions=[])], "ner", resamples=resamples)
    assert result.intervals is None
    assert result.to_dict()["confidence"] is None


def test_a_missing_library_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the pip command, before anything is read."""

    def absent(_: str) -> None:
        return None

    monkeypatch.setattr(calibration, "find_spec", absent)
    with pytest.raises(MissingDependencyError, match="pip install scipy scikit-learn"):
        evaluate(str(tmp_path), str(tmp_path), "ner")
