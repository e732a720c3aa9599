"""Counts of labels, scores and coverage equal a plain count over rows."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from luke_batch.base.contracts import load_contract
from luke_batch.corpus import statistics
from luke_batch.corpus.statistics import BINS, OTHER, Statistics, totals
from luke_batch.document.columns import ERROR, ERROR_TYPE, FRAGMENT

_LABELS = st.sampled_from(["PER", "LOC", "ORG", None])
_SCORES = st.none() | st.floats(0, 1, width=32)
_TYPES = st.none() | st.lists(st.fixed_dictionaries({"label": st.sampled_from("xyz"), "score": _SCORES}))
_MENTION = st.fixed_dictionaries(
    {"label": _LABELS, "score": _SCORES, "types": _TYPES, "title": st.none() | st.just("T")}
)
_RELATION = st.fixed_dictionaries({"label": st.sampled_from(["born", "died"]), "score": _SCORES})
_COVERAGE = st.fixed_dictionaries(
    {
        "characters": st.integers(0, 9),
        "windows": st.integers(0, 9),
        "dropped": st.lists(st.fixed_dictionaries({"reason": st.sampled_from("ab"), "count": st.integers(1, 5)})),
    }
)
_NO_COVERAGE: dict[str, Any] = {"characters": 0, "windows": 0, "dropped": []}
_UNDER_AN_EDGE = float(np.float32(0.45))
"""In single precision twenty times as much is 9."""
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "mentions": st.lists(_MENTION, max_size=4),
            "relations": st.lists(_RELATION, max_size=3),
            "coverage": _COVERAGE,
            "state": st.sampled_from(["good", "failed", "carrier"]),
        }
    ),
    max_size=8,
)


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    contract = load_contract("annotations")
    table = pa.table({FRAGMENT: pa.array([-1 if row["state"] == "carrier" else 0 for row in rows], pa.int32())})
    error = {"stage": "s", "error_class": "E", "message": "m"}
    errors = [error if row["state"] == "failed" else None for row in rows]
    table = table.append_column(ERROR, pa.array(errors, ERROR_TYPE))
    for name in ("mentions", "relations", "coverage"):
        field = contract.field(name)
        values = [row[name] if row["state"] == "good" else None for row in rows]
        table = table.append_column(field, pa.array(values, field.type))
    return table


def _row(**columns: Any) -> dict[str, Any]:
    return {"state": "good", "mentions": [], "relations": [], "coverage": None, **columns}


def _expected(entries: list[dict[str, Any]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for entry in entries:
        if entry["label"] is not None:
            bins = found.setdefault(entry["label"], [0] * (BINS + 1))
            score = entry["score"]
            bins[BINS if score is None else min(int(score * BINS), BINS - 1)] += 1
    return found


@example([_row(relations=[{"label": "born", "score": _UNDER_AN_EDGE}], coverage=_NO_COVERAGE)])
@given(_ROWS)
def test_counts_equal_those_by_hand(rows: list[dict[str, Any]]) -> None:
    """Failed documents and carrier rows count nothing; the others with every label, score and reason."""
    found = Statistics.of_item(_table(rows))
    good = [row for row in rows if row["state"] == "good"]
    mentions = [mention for row in good for mention in row["mentions"]]
    assert found.documents == len(good)
    assert found.mentions == len(mentions)
    assert found.linked == sum(mention["title"] is not None for mention in mentions)
    assert found.labels.get("mentions", {}) == _expected(mentions)
    assert found.labels.get("types", {}) == _expected([t for m in mentions for t in m["types"] or []])
    assert found.labels.get("relations", {}) == _expected([r for row in good for r in row["relations"]])
    assert found.coverage["windows"] == sum(row["coverage"]["windows"] for row in good)
    dropped: Counter[str] = Counter()
    for row in good:
        for entry in row["coverage"]["dropped"]:
            dropped[entry["reason"]] += entry["count"]
    assert found.dropped == dropped


@given(_ROWS, _ROWS)
def test_parts_add_up(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    """Counting two tables and adding is counting both together; and so it travels as JSON."""
    together = Statistics.of_item(_table([*first, *second]))
    added = Statistics.from_json(Statistics.of_item(_table(first)).to_json())
    added.add(Statistics.of_item(_table(second)))
    assert added.to_json()["labels"] == together.to_json()["labels"]
    assert (added.documents, +added.coverage, added.dropped) == (
        together.documents,
        +together.coverage,
        together.dropped,
    )


def test_a_table_without_annotations_counts_documents_alone() -> None:
    """A job may write none of the columns with labels."""
    found = Statistics.of_item(_table([_row()]).select([FRAGMENT, ERROR]))
    assert (found.documents, found.labels) == (1, {})


def test_a_run_counts_only_so_many_labels_apart(monkeypatch: Any) -> None:
    """The driver's memory does not grow with an open vocabulary; nothing is lost from the sum."""
    monkeypatch.setattr(statistics, "MOST_LABELS", 3)
    found = Statistics()
    for number in range(10):
        mention = {"label": f"L{number}", "score": 0.5, "types": None, "title": None}
        found.add(Statistics.of_item(_table([_row(mentions=[mention])])))
    counts = totals(found.labels["mentions"])
    assert counts == {OTHER: 7, "L0": 1, "L1": 1, "L2": 1}


def test_of_a_long_label_only_the_beginning_counts() -> None:
    """Labels of given mentions may be any text, and manifests stay small."""
    mentions = [{"label": "x" * 100 + end, "score": 0.5, "types": None, "title": None} for end in ("", "y", "z" * 9999)]
    found = Statistics.of_item(_table([_row(mentions=mentions)]))
    assert totals(found.labels["mentions"]) == {"x" * 100: 3}
