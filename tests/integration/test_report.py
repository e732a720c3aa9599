"""What a real run tells of itself: the report, an explanation, and the drift that fails a run."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from luke_batch import JobConfig
from luke_batch.corpus.drift import EXIT_CODE
from luke_batch.corpus.statistics import Statistics, totals
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.run import annotate
from luke_batch.report.explanation import explain
from luke_batch.report.figures import collect
from luke_batch.report.html import render
from tests.corpora import put
from tests.integration.conftest import Annotated, documents, read_data


def test_a_report_equals_what_was_committed(annotated: Annotated) -> None:
    """Labels, scores, coverage, dead letters, stages and time of a run on Ray."""
    figures = collect(Storage.at(str(annotated.output)))
    data = read_data(annotated.output)
    expected = Statistics.of(data.select(["mentions", "relations", "coverage"]))
    assert figures.statistics is not None
    for kind in ("mentions", "types", "relations"):
        assert totals(figures.statistics.labels[kind]) == totals(expected.labels[kind])
    assert totals(expected.labels["mentions"])
    assert figures.statistics.coverage == expected.coverage
    assert figures.committed == data.num_rows == 11
    assert sum(each.count for each in figures.dead) == annotated.report.outcome.dead_letters == 5
    assert set(figures.run.figures["spent"]) == {"read", "text", "main", "commit"}
    assert all(seconds >= 0 for seconds in figures.run.figures["spent"].values())
    assert sum(figures.run.figures["throughput"]["documents"]) == 12, "dead ones are done as well"
    assert figures.run.figures["bytes"] == sum(
        path.stat().st_size for path in annotated.output.glob("data/**/*.parquet")
    )
    assert {"plan", "start", "annotate", "finish"} <= set(figures.run.durations)
    page = render(figures)
    assert "no earlier run" in page
    assert "Wisława Szymborska" in page or "Marie Curie" in page


def test_a_row_is_explained(annotated: Annotated) -> None:
    """Run, fingerprint, model and source row are those of the run."""
    (found,) = explain(Storage.at(str(annotated.output)), "second-pl")
    assert (found.source, found.source_row) == ("b/second.parquet", 5)
    assert found.runs[0]["run_id"] == annotated.report.run_id
    assert found.fingerprint == annotated.report.plan.fingerprint
    assert len(found.models) == 1
    assert found.source_state.startswith("unchanged")
    assert found.coverage["windows"] > 0


def test_drift_beyond_the_limit_fails_a_run(ray_session: None, tmp_path: Path, config: JobConfig) -> None:  # noqa: ARG001
    """Code 5, and again while nothing new comes; a higher limit accepts it. Everything is committed."""
    input, output = tmp_path / "in", str(tmp_path / "out")
    put(input, "a.parquet", _many("first"))
    limited = _limited(config, 1e-6)
    first = annotate(str(input), output, limited, quiet=True)
    assert (first.exit_code, first.drift) == (0, None)
    put(input, "b.parquet", _many("second").slice(0, 100).filter(pa.array([n % 6 < 2 for n in range(100)])))
    second = annotate(str(input), output, limited, quiet=True)
    assert second.drift is not None
    assert second.drift.baseline == first.run_id
    assert second.drift.kinds["mentions"].distance > 1e-6
    assert (second.exit_code, second.outcome.complete) == (EXIT_CODE, True)
    again = annotate(str(input), output, limited, quiet=True)
    assert (again.exit_code, again.nothing_to_do) == (EXIT_CODE, True)
    assert annotate(str(input), output, _limited(config, 1.0), quiet=True).exit_code == 0
    assert collect(Storage.at(output)).run.exit_code == EXIT_CODE


def _limited(config: JobConfig, limit: float) -> JobConfig:
    changes: dict[str, Any] = {"max_rows": 40, "drift_limit": limit}
    return config.model_copy(update={"output": config.output.model_copy(update=changes)})


def _many(prefix: str) -> pa.Table:
    """120 documents."""
    tables = [documents(f"{prefix}-{number}") for number in range(20)]
    return pa.concat_tables(tables)
