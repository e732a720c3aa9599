"""`head: sequence` against LukeForSequenceClassification, for short, long, odd and empty texts."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import ValidationError

from luke_batch.base.arrays import FloatArray
from luke_batch.config import JobConfig
from tests.checkpoints import LABELS, Recipe, with_head
from tests.text_heads import LONG, NOTHING, SHORT, Reference, annotate, softmax, with_section

Folders = Callable[[Recipe], Path]
SEQUENCE = with_head("sequence", Recipe())


def long_logits(reference: Reference, row: dict[str, Any]) -> tuple[FloatArray, list[int]]:
    """The mean logits of a long text, and the tokens of its windows: runs of whole sentences."""
    text: str = row["text"]
    cuts = [sentence["start"] for sentence in row["sentences"][1:]]
    cuts = [0, *(cut - (text[cut - 1] == " ") for cut in cuts), len(text)]
    windows: list[list[int]] = [[]]
    for start, end in pairwise(cuts):
        ids = reference.ids(text[start:end])
        if len(windows[-1]) + len(ids) > 510:
            windows.append([])
        windows[-1] += ids
    sizes = [len(window) for window in windows]
    return np.average([reference(window) for window in windows], axis=0, weights=sizes), sizes


@pytest.mark.parametrize("engine", ["fast", "transformers"])
@pytest.mark.parametrize("kind", ["luke", "mluke"])
def test_labels_equal_those_of_transformers(
    kind: Literal["luke", "mluke"], engine: str, checkpoint_folder: Folders
) -> None:
    """A text that fits, and one of 3,000 tokens: the label of the (mean) logits, and its probability. Every
    token of the long one is in exactly one window.
    """
    folder = checkpoint_folder(replace(SEQUENCE, kind=kind))
    reference = Reference(folder, "sequence")
    short, long = annotate(folder, {"head": "sequence"}, [SHORT, LONG], engine)
    logits, sizes = long_logits(reference, long)
    for row, wanted in ((short, reference(reference.ids(SHORT))), (long, logits)):
        (found,) = row["sequence"]
        assert found["label"] == LABELS["sequence"][int(wanted.argmax())]
        assert found["score"] == pytest.approx(float(softmax(wanted).max()), abs=1e-4)
        assert found["value"] is None
    assert sum(sizes) > 3000
    assert long["coverage"]["windows"] == len(sizes) > 5
    assert long["coverage"]["tokens"] == sum(sizes) + 2 * len(sizes)
    assert long["coverage"]["dropped"] == []


def test_calibration_and_several_labels(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """Temperature divides the logits; multi-label has the sigmoid of each with its offset, above the
    threshold, best first.
    """
    folder = checkpoint_folder(SEQUENCE)
    logits = Reference(folder, "sequence")(Reference(folder, "sequence").ids(SHORT))
    warm = with_section(folder, tmp_path / "warm", temperature=3.0)
    (found,) = annotate(warm, {"head": "sequence"}, [SHORT])[0]["sequence"]
    assert found["score"] == pytest.approx(float(softmax(logits, 3.0).max()), abs=1e-4)

    several = checkpoint_folder(replace(SEQUENCE, problem_type="multi_label_classification"))
    offsets = [0.5, 0.0, -0.5]
    scaled = with_section(several, tmp_path / "several", temperature=2.0, offsets=offsets, threshold=0.3)
    wanted = 1 / (1 + np.exp(-(logits + np.array(offsets)) / 2.0))
    rows = annotate(scaled, {"head": "sequence"}, [SHORT])[0]["sequence"]
    order = [n for n in np.argsort(-wanted) if wanted[n] >= 0.3]
    assert len(order) > 1
    assert [row["label"] for row in rows] == [LABELS["sequence"][n] for n in order]
    assert [row["score"] for row in rows] == pytest.approx(wanted[order].tolist(), abs=1e-4)
    strict = annotate(scaled, {"head": "sequence", "threshold": 0.99}, [SHORT])[0]["sequence"]
    assert strict == []


@pytest.mark.parametrize(
    ("labels", "problem", "settings"),
    [
        (("quality",), None, {}),
        (("a", "b"), "regression", {}),
        (("a", "b"), None, {"regression": True}),
    ],
)
def test_values_of_a_regression(
    labels: tuple[str, ...],
    problem: Literal["regression"] | None,
    settings: dict[str, Any],
    checkpoint_folder: Folders,
) -> None:
    """One value for each output, raw, without a score: where the checkpoint says so, has a single output, or
    the job says so.
    """
    folder = checkpoint_folder(replace(SEQUENCE, labels=labels, problem_type=problem))
    reference = Reference(folder, "sequence")
    rows = annotate(folder, {"head": "sequence", **settings}, [SHORT])[0]["sequence"]
    assert [(row["label"], row["score"]) for row in rows] == [(label, None) for label in labels]
    wanted = reference(reference.ids(SHORT)).tolist()
    assert [row["value"] for row in rows] == pytest.approx(wanted, abs=1e-4)


def test_a_single_output_may_be_a_label(checkpoint_folder: Folders) -> None:
    """A detector with one label has a probability where the job or the checkpoint says that it is one."""
    one = replace(SEQUENCE, labels=("spam",))
    said = checkpoint_folder(replace(one, problem_type="multi_label_classification"))
    for folder, settings in ((said, {}), (checkpoint_folder(one), {"multi_label": True})):
        head = {"head": "sequence", "threshold": 0.0001, **settings}
        (row,) = annotate(folder, head, [SHORT])[0]["sequence"]
        assert row["label"] == "spam"
        assert 0 < row["score"] < 1
        assert row["value"] is None


def test_texts_without_words_have_no_label(checkpoint_folder: Folders) -> None:
    """Null, empty and white space: an empty list and no window."""
    folder = checkpoint_folder(replace(SEQUENCE, kind="mluke"))
    for row in annotate(folder, {"head": "sequence"}, NOTHING):
        assert row["sequence"] == []
        assert row["coverage"]["windows"] == 0


def test_values_are_no_labels() -> None:
    """Both at once cannot be meant."""
    with pytest.raises(ValidationError, match=r"either `multi_label` or `regression`"):
        JobConfig.model_validate({"heads": [{"head": "sequence", "multi_label": True, "regression": True}]})
