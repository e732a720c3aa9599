"""The distance between label shares, its noise, and what a run is compared with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from luke_batch.base.errors import ConfigError
from luke_batch.corpus.drift import Drift, KindDrift, baseline_of, distance, last_drift
from luke_batch.corpus.storage import Storage
from tests.reported import report_run, sentences

_COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 1000), min_size=1)


@given(_COUNTS, _COUNTS)
def test_the_distance_is_scipys(first: dict[str, int], second: dict[str, int]) -> None:
    """The square root of the divergence to base 2; symmetric, within 0 and 1."""
    names = sorted({*first, *second})
    p, q = ([counts.get(name, 0) for name in names] for counts in (first, second))
    expected = jensenshannon(p, q, base=2)
    assert distance(first, second) == pytest.approx(np.nan_to_num(expected), abs=1e-6)
    assert distance(first, second) == pytest.approx(distance(second, first), abs=1e-9)


def test_the_ends_of_the_scale() -> None:
    """The same shares of other totals are no drift; nothing in common is all of it."""
    assert distance({"a": 1, "b": 3}, {"a": 100, "b": 300}) == pytest.approx(0, abs=1e-7)
    assert distance({"a": 5}, {"b": 7}) == pytest.approx(1)


def test_chance_is_what_samples_of_one_source_differ_by() -> None:
    """The formula against 400 pairs of samples: the root of the mean divergence, within a tenth."""
    random = np.random.default_rng(0)
    shares, sizes = [0.4, 0.3, 0.2, 0.1], (500, 800)
    squares: list[float] = []
    for _ in range(400):
        p, q = (dict(zip("abcd", random.multinomial(size, shares).tolist(), strict=True)) for size in sizes)
        squares.append(distance(p, q) ** 2)
    expected = np.sqrt(3 * (1 / 500 + 1 / 800) / (8 * np.log(2)))
    assert np.sqrt(np.mean(squares)) == pytest.approx(expected, rel=0.1)


def test_a_run_is_compared_with_the_last_that_ended_well(tmp_path: Path) -> None:
    """Kinds with enough labels in both runs; the distance is that of the counts."""
    first = report_run(tmp_path, sentences(150))
    second = report_run(tmp_path, sentences(150, "ORG", first=1000), number=1)
    drift = Drift.from_figures(second.figures["drift"])
    assert (drift.baseline, drift.same_fingerprint) == (first.run_id, True)
    assert drift.kinds["mentions"].distance == pytest.approx(
        distance({"PER": 150, "LOC": 150}, {"ORG": 150, "LOC": 150}), abs=1e-4
    )
    assert drift.kinds["relations"] == KindDrift(1.0, drift.kinds["relations"].chance, 150, 150)
    assert drift.exceeds(0.99)
    assert not drift.exceeds(None)
    assert last_drift(Storage.at(str(tmp_path / "out"))) == drift


def test_a_lasting_fault_keeps_alarming(tmp_path: Path) -> None:
    """Three nights of which the second and the third have the fault. Before, the third was compared with the second and
    ended with 0: the fault had become its own measure.
    """
    settings: dict[str, Any] = {"drift_limit": 0.3}
    first = report_run(tmp_path, sentences(150), **settings)
    nights = [report_run(tmp_path, sentences(150, "ORG", first=1000 * n), number=n, **settings) for n in (1, 2)]
    assert [night.exit_code for night in (first, *nights)] == [0, 5, 5]
    assert [night.figures["drift"]["baseline"] for night in nights] == [first.run_id] * 2
    accepted = report_run(
        tmp_path, sentences(150, "ORG", first=4000), number=3, **settings, drift_baseline=nights[1].run_id
    )
    assert (accepted.exit_code, accepted.figures["drift"]["baseline"]) == (0, nights[1].run_id)
    after = report_run(tmp_path, sentences(150, "ORG", first=5000), number=4, **settings)
    assert (after.exit_code, after.figures["drift"]["baseline"]) == (0, accepted.run_id)


def test_a_night_without_news_is_judged_by_the_named_baseline(tmp_path: Path) -> None:
    """The last run's labels are accepted by naming it, at once and not with the next documents. Before: such a night
    went on alarming.
    """
    report_run(tmp_path, sentences(150), drift_limit=0.3)
    second = report_run(tmp_path, sentences(150, "ORG", first=1000), number=1, drift_limit=0.3)
    output = Storage.at(str(tmp_path / "out"))
    as_measured, accepted = last_drift(output), last_drift(output, second.run_id)
    assert as_measured is not None
    assert accepted is not None
    assert as_measured.exceeds(0.3)
    assert (accepted.largest, accepted.baseline) == (0.0, second.run_id)


def test_an_unknown_baseline_is_refused(tmp_path: Path) -> None:
    """Before any work, with the runs there are."""
    run = report_run(tmp_path, sentences(2))
    with pytest.raises(ConfigError, match=rf"no finished run nobody with documents; it has {run.run_id}; name one"):
        baseline_of(Storage.at(str(tmp_path / "out")), "", "nobody")


def test_few_labels_are_not_compared(tmp_path: Path) -> None:
    """Shares of less than a hundred labels say nothing, and no limit is exceeded."""
    report_run(tmp_path, sentences(20))
    second = report_run(tmp_path, sentences(150, "ORG", first=1000), number=1)
    drift = Drift.from_figures(second.figures["drift"])
    assert (drift.kinds, drift.largest, drift.exceeds(0.01)) == ({}, 0.0, False)


def test_the_first_run_has_no_baseline(tmp_path: Path) -> None:
    """Nor has an OUTPUT whose manifests are unreadable."""
    run = report_run(tmp_path, sentences(2))
    output = Storage.at(str(tmp_path / "out"))
    assert run.figures["drift"] is None
    assert baseline_of(output, run.run_id) is None
    assert last_drift(output) is None
