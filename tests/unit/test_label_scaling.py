"""Calibration of labels that do not exclude one another: offsets, a temperature, and what is written."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import expit

from luke_batch.evaluation.calibration import expected_calibration_error, fit_label_scaling
from luke_batch.heads.head import Labels
from luke_batch.model.files.facts import HeadFacts


def _drawn(offsets: list[float], temperature: float, rows: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are right with the probability which the scaling says."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=4, size=(rows, len(offsets)))
    return logits, rng.random(logits.shape) < expit((logits + np.array(offsets)) / temperature)


def test_the_scaling_that_made_the_labels_is_found() -> None:
    """Slope and offsets, on enough labels, up to the shrinkage."""
    logits, right = _drawn([-3.0, 0.0, 1.0], 2.0)
    found = fit_label_scaling(logits, right)
    assert found.temperature == pytest.approx(2.0, abs=0.15)
    assert found.offsets == pytest.approx([-3.0, 0.0, 1.0], abs=0.35)


@settings(deadline=None, max_examples=20)
@given(st.floats(-2, 2), st.floats(0.5, 3))
def test_scores_become_probabilities(offset: float, temperature: float) -> None:
    """Whatever bent them: the calibration error falls under a few points, also of what is written alone."""
    logits, right = _drawn([offset, offset - 1, 0.0], temperature)
    scaling = fit_label_scaling(logits, right)
    written = expit((logits + scaling.offsets) / scaling.temperature) >= 0.4
    scores = expit((logits + scaling.offsets) / scaling.temperature)
    assert expected_calibration_error(scores[written], right[written]) < 0.04


@pytest.mark.parametrize("right", [False, True])
def test_without_a_choice_nothing_is_fitted(right: bool) -> None:
    """All right or all wrong has no finite optimum: logits stay as they are."""
    logits = np.linspace(-3, 3, 12).reshape(6, 2)
    truth = np.full(logits.shape, right)
    found = fit_label_scaling(logits, truth)
    assert (found.temperature, found.offsets.tolist()) == (1.0, [0.0, 0.0])


def test_offsets_reach_the_scores_of_several_labels_alone() -> None:
    """The probability is sigmoid((logit + offset) / temperature); where one label holds there are none."""
    labels = Labels(("a", "b"), -1, True, temperature=2.0, threshold=0.5, offsets=(1.0, -3.0))
    assert labels.decode(np.array([0.0, 2.0], np.float32)) == [("a", pytest.approx(float(expit(0.5))))]
    single = Labels(("a", "b"), -1, False, temperature=2.0)
    assert single.decode(np.array([0.0, 2.0], np.float32)) == [("b", pytest.approx(float(expit(1.0))))]


def test_a_checkpoint_needs_an_offset_for_each_label() -> None:
    """A list of another length belongs to another head."""
    HeadFacts(labels=("a", "b"), offsets=(0.1, 0.2))
    with pytest.raises(ValidationError, match="1 offsets for 2 labels"):
        HeadFacts(labels=("a", "b"), offsets=(0.1,))


def test_a_long_list_in_one_document_tells_little_of_a_label() -> None:
    """Two labels that are right in a third of the places where their logits are 0; those of the first all in one
    document. Counted place by place, as before, both get the same offset; the level of the scores stays that of all.
    """
    right = np.zeros((120, 2), bool)
    right[:40, 0] = right[::3, 1] = True
    documents = ["list"] * 40 + [str(number) for number in range(80)]
    logits = np.random.default_rng(0).normal(scale=0.1, size=right.shape)
    before, now = fit_label_scaling(logits, right), fit_label_scaling(logits, right, documents)
    assert before.offsets[0] == pytest.approx(before.offsets[1], abs=0.3)
    assert now.offsets[0] < now.offsets[1] - 0.5
    assert expit((logits + now.offsets) / now.temperature).mean() == pytest.approx(1 / 3, abs=0.05)
