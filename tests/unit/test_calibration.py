"""Expected calibration error and temperatures, on scores whose calibration is known."""

import warnings
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, softmax

from luke_batch.evaluation.calibration import (
    BOUNDS,
    Outcome,
    Temperature,
    calibrate,
    expected_calibration_error,
    fit_temperature,
    in_fitting_half,
    log_odds,
)

_ITEMS = 4000


def _calibrated(seed: int, *, multi: bool) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.bool_]]:
    """Logits, the best label of each, and outcomes drawn with just the probabilities that the logits say."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (_ITEMS, 5))
    chosen = logits.argmax(1)
    probabilities = expit(logits) if multi else softmax(logits, axis=1)
    return logits, chosen, random.random(_ITEMS) < probabilities[np.arange(_ITEMS), chosen]


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.booleans()), max_size=80),
    st.integers(1, 20),
)
def test_the_error_is_the_mean_gap_of_bins_of_equal_mass(items: list[tuple[int, bool]], bins: int) -> None:
    """Without ties: sort, cut into parts, weigh each part's |mean score - share right| by its size."""
    items = list(dict(items).items())
    scores = np.array([score / 1000 for score, _ in items])
    right = np.array([outcome for _, outcome in items], np.bool_)
    parts = np.array_split(np.argsort(scores), bins)
    expected = sum(len(part) * abs(scores[part].mean() - right[part].mean()) for part in parts if len(part)) / max(
        1, len(items)
    )
    assert expected_calibration_error(scores, right, bins) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=60), st.randoms())
def test_the_error_does_not_depend_on_the_order_of_items(items: list[tuple[int, bool]], random: Random) -> None:
    """Also where a bin's border falls among equal scores: no order of the items changes the error."""
    shuffled = list(items)
    random.shuffle(shuffled)

    def error(rows: list[tuple[int, bool]]) -> float:
        return expected_calibration_error(
            np.array([score / 4 for score, _ in rows]), np.array([outcome for _, outcome in rows])
        )

    assert error(shuffled) == pytest.approx(error(items), abs=1e-12)
    assert 0 <= error(items) <= 1


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_a_scale_of_the_logits_is_undone(multi: bool, scale: float) -> None:
    """Outcomes drawn from the scores themselves: a small error, and logits times c need temperature c."""
    logits, chosen, right = _calibrated(0, multi=multi)
    scores = expit(log_odds(logits, chosen, 1.0, multi=multi))
    assert expected_calibration_error(scores, right) < 0.03
    fitted = fit_temperature(logits * scale, chosen, right, multi=multi)
    assert fitted.outcome == "fitted"
    assert fitted.value == pytest.approx(scale, rel=0.1)


@given(st.integers(0, 2**32 - 1), st.booleans(), st.floats(0.2, 5))
def test_log_odds_are_those_of_the_head(seed: int, multi: bool, temperature: float) -> None:
    """Softmax or sigmoid of the divided logits, at the chosen label."""
    random = np.random.default_rng(seed)
    logits, chosen = random.normal(0, 3, (20, 4)).astype(np.float32), random.integers(0, 4, 20)
    scaled = logits.astype(np.float64) / temperature
    expected = (expit(scaled) if multi else softmax(scaled, axis=1))[np.arange(20), chosen]
    found = expit(log_odds(logits, chosen, temperature, multi=multi))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_larger_temperature_makes_the_best_label_less_sure() -> None:
    """The score of the best label falls as the temperature rises, and the best label stays."""
    logits, chosen, _ = _calibrated(1, multi=False)
    scores = np.stack([log_odds(logits, chosen, value, multi=False) for value in (0.5, 1.0, 2.0, 8.0)])
    assert (np.diff(scores, axis=0) < 0).all()


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize(
    ("right", "outcome"),
    [([], "no item"), ([True, True, True], "all right"), ([False, False], "all wrong")],
)
def test_where_nothing_can_be_fitted_the_temperature_is_one(right: list[bool], outcome: Outcome, multi: bool) -> None:
    """No item, or items of one outcome alone: temperature 1, and the reason."""
    logits = np.zeros((len(right), 3), np.float32)
    chosen = np.zeros(len(right), np.intp)
    found = fit_temperature(logits, chosen, np.array(right, np.bool_), multi=multi)
    assert found == Temperature(1.0, outcome)
    whole = calibrate(logits, chosen, np.array(right, np.bool_), [f"d{n}" for n in range(len(right))], multi=multi)
    assert whole.temperature.value == 1.0
    assert whole.before == whole.after


def test_a_best_temperature_beyond_the_bounds_is_said_to_be_there() -> None:
    """Sigmoid scores above one half of which few are right: flatter is always better, up to the bound."""
    logits = np.full((10, 1), 2.0)
    right = np.arange(10) < 2
    found = fit_temperature(logits, np.zeros(10, np.intp), right, multi=True)
    assert found.outcome == "at bound"
    assert found.value == pytest.approx(BOUNDS[1], rel=0.01)


@given(
    st.integers(1, 30),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1.0, 1e4, 3e38]),
    st.booleans(),
)
def test_no_logits_lead_to_infinity(items: int, labels: int, seed: int, scale: float, multi: bool) -> None:
    """Equal, huge and single logits, -inf beside the chosen one: figures are finite, and nothing warns."""
    random = np.random.default_rng(seed)
    logits = (random.uniform(-1, 1, (items, labels)) * scale).astype(np.float32)
    chosen = random.integers(0, labels, items)
    logits[(random.random(logits.shape) < 0.2) & (np.arange(labels) != chosen[:, None])] = -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = calibrate(logits, chosen, random.random(items) < 0.5, [str(n) for n in range(items)], multi=multi)
    low, high = BOUNDS
    assert low * 0.99 <= found.temperature.value <= high * 1.01
    assert 0 <= found.before <= 1
    assert 0 <= found.after <= 1
    assert found.fitted_items + found.reported_items == items


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_chosen_logit_that_is_no_number_is_refused(wrong: float) -> None:
    """An emitted label has a finite logit; anything else is a defect of the caller."""
    logits = np.array([[wrong, 0.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(logits, np.array([0, 0]), np.array([True, False]), multi=False)


@pytest.mark.parametrize("multi", [False, True])
def test_calibration_is_reported_on_documents_that_it_was_not_fitted_on(multi: bool) -> None:
    """Overconfident logits: the error falls on one half, by a temperature of the other half alone."""
    logits, chosen, right = _calibrated(2, multi=multi)
    documents = [f"d{number // 3}" for number in range(_ITEMS)]
    found = calibrate(4 * logits, chosen, right, documents, multi=multi)
    fits = in_fitting_half(documents)
    assert found.temperature == fit_temperature(4 * logits[fits], chosen[fits], right[fits], multi=multi)
    assert (found.fitted_items, found.reported_items) == (int(fits.sum()), int((~fits).sum()))
    assert found.after < 0.04 < found.before
    assert 0.4 < fits.mean() < 0.6


def test_the_half_of_a_document_never_changes() -> None:
    """By the id alone: other documents, their order and the process do not matter."""
    ids = [f"doc-{number}" for number in range(16)]
    assert in_fitting_half(ids).tolist() == [bool(in_fitting_half([id])[0]) for id in ids]
    assert "".join("01"[int(half)] for half in in_fitting_half(ids)) == "1111110011001001"
