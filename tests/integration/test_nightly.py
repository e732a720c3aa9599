"""The nights of a corpus that grows, changes and shrinks: exactly the right fragments are done on each."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import luke_batch
from luke_batch import JobConfig
from luke_batch.config import OutputConfig
from luke_batch.distributed.run import RunReport, annotate
from tests.checkpoints import make_multi_head
from tests.corpora import put
from tests.integration.conftest import assert_same_annotations, config_for, documents

pytestmark = pytest.mark.usefixtures("ray_session")

HEADING = ("night", "new", "changed", "stale", "done", "vanished", "annotated", "files", "seconds")


@dataclass
class Nights:
    """A corpus, its output, and what was done so far."""

    folder: Path
    sources: dict[str, pa.Table] = field(default_factory=lambda: dict[str, pa.Table]())
    """What INPUT holds now."""
    lines: list[str] = field(default_factory=lambda: list[str]())

    def put(self, name: str, table: pa.Table) -> None:
        """Add or replace a file of INPUT."""
        put(self.folder / "in", name, table)
        self.sources[name] = table

    def remove(self, name: str) -> None:
        """Remove a file of INPUT."""
        (self.folder / "in" / name).unlink()
        del self.sources[name]

    def outputs(self) -> dict[str, int]:
        """Output file -> when it was written."""
        data = self.folder / "out" / "data"
        return {str(path.relative_to(data)): path.stat().st_mtime_ns for path in data.rglob("*.parquet")}

    def run(self, name: str, config: JobConfig, *where: str) -> tuple[RunReport, set[str]]:
        """Annotate; the report, and the output files that were written, all of them once."""
        before = self.outputs()
        started = time.monotonic()
        report = annotate(str(self.folder / "in"), str(self.folder / "out"), config, where=where, quiet=True)
        after = self.outputs()
        written = {path for path, when in after.items() if before.get(path) != when}
        counts = [report.plan.tallies[state].fragments for state in ("new", "changed", "stale", "done", "vanished")]
        cells = [*counts, report.tally.documents, len(after)]
        seconds = f"{time.monotonic() - started:.1f}"
        self.lines.append(f"{name:<18}" + "".join(f"{cell:>11}" for cell in [*cells, seconds]))
        assert report.exit_code == 0
        assert report.tally.failures == []
        return report, written

    def assert_current(self, config: JobConfig, *kept: pa.Table) -> None:
        """The dataset and the glob hold what the Annotator makes of INPUT, and of `kept`, in one process."""
        expected = pa.concat_tables([*self.sources.values(), *kept])
        found = luke_batch.read(str(self.folder / "out")).to_table()
        assert_same_annotations(found, expected, config)
        files = ds.dataset(sorted(map(str, (self.folder / "out" / "data").rglob("*.parquet"))))
        assert sorted(files.to_table()["id"].to_pylist()) == sorted(found["id"].to_pylist())


def fragments(report: RunReport) -> dict[str, int]:
    """Fragments to do, by source file."""
    counts: dict[str, int] = {}
    for item in report.plan.items:
        for fragment in item.fragments:
            counts[fragment.source] = counts.get(fragment.source, 0) + 1
    return counts


def with_output(config: JobConfig, **changes: object) -> JobConfig:
    """The same job with other output settings."""
    output = OutputConfig.model_validate({**config.output.model_dump(), **changes})
    return config.model_copy(update={"output": output})


def test_nightly_story(tmp_path: Path, config: JobConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """Night 1; files come, change and go; another model; nothing to do; another cluster size."""
    nights = Nights(tmp_path)
    nights.put("date=1/a.parquet", documents("a"))
    nights.put("date=1/b.parquet", documents("b"))
    report, written = nights.run("first", config)
    assert fragments(report) == {"date=1/a.parquet": 2, "date=1/b.parquet": 2}
    assert len(written) == 4
    nights.assert_current(config)

    nights.put("date=2/c.parquet", documents("c"))  # a partition that was not there before
    report, written = nights.run("one file more", config)
    assert fragments(report) == {"date=2/c.parquet": 2}
    assert {path.split("/")[0] for path in written} == {"date=2"}
    nights.assert_current(config)

    nights.put("date=1/b.parquet", documents("changed").slice(0, 5))
    nights.put("date=3/d.parquet", documents("d").slice(0, 1))
    report, written = nights.run("restricted", config, "date=3")
    assert (fragments(report), len(written)) == ({"date=3/d.parquet": 1}, 1)
    report, written = nights.run("one file changed", config)
    assert fragments(report) == {"date=1/b.parquet": 2}
    assert len(written) == 2
    nights.assert_current(config)

    gone = nights.sources["date=1/a.parquet"]
    nights.remove("date=1/a.parquet")
    report, written = nights.run("one file gone", config)
    assert (report.nothing_to_do, report.plan.tallies["vanished"].files, written) == (True, 1, set())
    nights.assert_current(config, gone)
    nights.run("and pruned", with_output(config, on_vanished="prune"))
    nights.assert_current(config)

    other = config_for(make_multi_head(tmp_path / "other", seed=2))
    report, written = nights.run("another model", other)
    assert fragments(report) == {"date=1/b.parquet": 2, "date=2/c.parquet": 2, "date=3/d.parquet": 1}
    assert report.plan.tallies["stale"].files == 3
    assert written == set(nights.outputs())
    nights.assert_current(other)

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    report, written = nights.run("nothing to do", other)
    assert report.nothing_to_do
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before

    larger = other.with_models(lambda model: model.model_copy(update={"actors": 2}))
    assert nights.run("larger cluster", with_output(larger, max_rows=3))[0].nothing_to_do
    nights.put("date=2/e.parquet", documents("e"))
    os.utime(tmp_path / "in" / "date=1" / "b.parquet")  # touched, not changed
    report, written = nights.run("and a file more", with_output(larger, max_rows=3))
    assert (fragments(report), len(written)) == ({"date=2/e.parquet": 2}, 2)
    nights.assert_current(other)
    with capsys.disabled():
        heading = f"{HEADING[0]:<18}" + "".join(f"{name:>11}" for name in HEADING[1:])
        os.write(1, "\n".join(["", heading, *nights.lines, ""]).encode())
