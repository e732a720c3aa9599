"""A run's forecast is noted at its start, and compared with what came of it."""

from pathlib import Path
from typing import Any

import pytest

from luke_batch import cli
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.manifest import Forecast, RunManifest, read_manifests
from luke_batch.corpus.storage import Storage
from luke_batch.distributed import run as runner
from tests import run_without_ray
from tests.corpora import documents, put


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any] | None]:
    """What manifests say of the forecast while the work is under way; Ray and models are replaced."""
    found: list[dict[str, Any] | None] = []

    def annotate(plan: Any, config: Any, manifest: RunManifest, lease: Lease, *rest: Any, **options: Any) -> None:
        found.append(manifest.forecast)
        run_without_ray.annotate_items(plan, config, manifest, lease, *rest, **options)

    monkeypatch.setattr(runner, "_annotate_items", annotate)
    return found


def test_forecast_against_actual(tmp_path: Path, noted: list[dict[str, Any] | None]) -> None:
    """Nothing on the first night; on the second the manifest holds the forecast, then also what it took."""
    command = ["annotate", str(tmp_path / "in"), str(tmp_path / "out"), "--quiet"]
    put(tmp_path, "in/a.parquet", documents(4))
    assert cli.run(command) == 0
    put(tmp_path, "in/b.parquet", documents(8, first=4))
    assert cli.run(command) == 0
    first, second = read_manifests(Storage.at(str(tmp_path / "out")))
    assert first.forecast is noted[0] is None
    assert noted[1] is not None
    assert second.forecast is not None
    assert noted[1]["run_id"] == first.run_id
    assert noted[1]["seconds"] == pytest.approx(2 * first.durations["annotate"])
    assert noted[1].items() <= second.forecast.items()
    actual = second.durations["annotate"]
    assert second.forecast["actual_seconds"] == pytest.approx(actual, abs=1e-3)
    assert second.forecast["ratio"] == pytest.approx(actual / noted[1]["seconds"], abs=1e-3)


def test_nothing_to_compare() -> None:
    """With a forecast of no documents there is no ratio."""
    assert Forecast(0.0, 5.0, "a", 9, True).compared(3.0) is None
    found = Forecast(2.0, 5.0, "a", 9, True).compared(3.0)
    assert found is not None
    assert found["ratio"] == 1.5
