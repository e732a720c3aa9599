"""`ner` and `types` write what is probable enough, and types go with the label of their mention."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from luke_batch.annotate.annotator import Annotator
from luke_batch.config import JobConfig
from tests.checkpoints import LABELS, make_multi_head

TEXT = "Ada Lovelace met Charles Babbage in London. He knew Mary Somerville of Jedburgh."


def folder_with(folder: Path, **types: Any) -> Path:
    """A model whose types exclude one another."""
    made = make_multi_head(folder)
    manifest = json.loads((made / "luke_batch.json").read_text())
    manifest["heads"]["types"] = {"labels": LABELS["types"], "multi_label": False, **types}
    (made / "luke_batch.json").write_text(json.dumps(manifest))
    return made


def annotated(folder: Path, *heads: dict[str, Any]) -> dict[str, Any]:
    """The annotated row of TEXT."""
    models = {"main": {"path": str(folder), "precision": "float32"}}
    job = JobConfig.model_validate({"models": models, "heads": list(heads)})
    (row,) = Annotator.from_config(job).annotate(pa.table({"text": [TEXT]})).to_pylist()
    assert row["error"] is None
    return row


def test_mentions_below_the_threshold_are_left_out_and_counted(tmp_path: Path) -> None:
    """The others stay as they are: what was chosen does not depend on the threshold."""
    folder = make_multi_head(tmp_path / "model")
    every = annotated(folder, {"head": "ner", "spans": "all"})
    scores = sorted(mention["score"] for mention in every["mentions"])
    middle = scores[len(scores) // 2]
    sure = annotated(folder, {"head": "ner", "spans": "all", "threshold": middle})
    assert sure["mentions"] == [mention for mention in every["mentions"] if mention["score"] >= middle]
    assert 0 < len(sure["mentions"]) < len(every["mentions"])
    assert sure["coverage"]["dropped"] == [
        *every["coverage"]["dropped"],
        {"reason": "unsure_mention", "count": len(every["mentions"]) - len(sure["mentions"])},
    ]


@pytest.mark.parametrize("told", ["checkpoint", "job"])
def test_types_below_the_threshold_are_left_out_and_counted(tmp_path: Path, told: str) -> None:
    """Before, the best type was written however improbable. A mention that was read has none, but no null."""
    heads = ({"head": "ner", "spans": "all"}, {"head": "types"})
    every = annotated(folder_with(tmp_path / "every"), *heads)
    scores = sorted(mention["types"][0]["score"] for mention in every["mentions"])
    middle = round(scores[len(scores) // 2], 4)
    facts = {"threshold": middle} if told == "checkpoint" else {}
    settings = {"threshold": middle} if told == "job" else {}
    sure = annotated(folder_with(tmp_path / "sure", **facts), heads[0], {**heads[1], **settings})
    assert [mention["types"] for mention in sure["mentions"]] == [
        mention["types"] if mention["types"][0]["score"] >= middle else [] for mention in every["mentions"]
    ]
    left = sum(mention["types"] == [] for mention in sure["mentions"])
    assert 0 < left < len(every["mentions"])
    assert {"reason": "unsure_type", "count": left} in sure["coverage"]["dropped"]


def test_types_go_with_the_label_of_their_mention(tmp_path: Path) -> None:
    """A type at odds with it stands where it is surer; else the likeliest that goes with it, with its own probability.

    Before, a location was a person in its type with whatever probability.
    """
    heads = ({"head": "ner", "spans": "all"}, {"head": "types"})
    free = annotated(folder_with(tmp_path / "free", temperature=8.0), *heads)
    labels = sorted({mention["label"] for mention in free["mentions"]})
    # Random weights know one type for most mentions: it goes with none of the labels, the others with all.
    usual = Counter(mention["types"][0]["label"] for mention in free["mentions"]).most_common(1)[0][0]
    coarse = {name: ["-"] if name == usual else labels for name in LABELS["types"]}
    bound = annotated(folder_with(tmp_path / "bound", temperature=8.0, coarse=coarse), *heads)
    changed = 0
    for before, after in zip(free["mentions"], bound["mentions"], strict=True):
        (old,), (new,) = before["types"], after["types"]
        if old["label"] != usual or old["score"] > before["score"]:
            assert new == old
        else:
            changed += 1
            assert new["label"] != usual
            assert new["score"] <= old["score"]
    assert changed
