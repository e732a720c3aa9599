"""What a real run exports to Prometheus, fetched from the port that Prometheus would ask."""

import re
import time
from collections import defaultdict
from pathlib import Path
from urllib.request import urlopen

import pyarrow as pa
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from luke_batch import JobConfig
from luke_batch.distributed.metrics import METRICS
from luke_batch.distributed.run import annotate
from tests.corpora import put
from tests.integration.conftest import config_for, documents, read_data, with_broken_text
from tests.metric_names import INFRA, queried

pytestmark = pytest.mark.usefixtures("ray_session")

GPU_ONLY = {"ray_node_gpus_utilization"}
"""Exported where there is a GPU; in Ray's list of metrics (dashboard/modules/reporter)."""

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]
"""Metric -> its labels, without Ray's own -> value."""


def scrape() -> Samples:
    """All metrics of this node, summed over processes."""
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urlopen(address, timeout=10) as answer:
        text = answer.read().decode()
    found: Samples = defaultdict(lambda: defaultdict(float))
    ours = {label for metric in METRICS for label in metric.labels}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key in ours))
            found[sample.name][labels] += sample.value
    return found


def settled() -> Samples:
    """The metrics once workers of earlier tests have reported their last figures."""
    found = scrape()
    for _ in range(20):
        time.sleep(1.5)  # three reports
        earlier, found = found, scrape()
        if total(earlier, "documents") == total(found, "documents"):
            break
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    """Sum over all series of one of our metrics that have these labels."""
    (metric,) = [metric for metric in METRICS if metric.name == name]
    series = samples.get(metric.exported, {})
    return sum(value for key, value in series.items() if labels.items() <= dict(key).items())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> tuple[Samples, pa.Table, JobConfig]:
    """Metrics of one run (less what was there before), its output, and its configuration."""
    folder = tmp_path_factory.mktemp("metrics")
    put(folder / "in", "a.parquet", pa.concat_tables([documents(f"a{n}") for n in range(8)]))
    put(folder / "in", "b.parquet", with_broken_text(documents("b")))
    (folder / "in" / "c.parquet").write_bytes(b"no Parquet")
    config = config_for(checkpoint, engine="transformers")
    before = settled()
    report = annotate(str(folder / "in"), str(folder / "out"), config, quiet=True)
    assert report.exit_code == 3, "the budget of dead letters is 1%"
    table = read_data(folder / "out")
    wanted = total(before, "documents") + table.num_rows
    deadline = time.monotonic() + 30
    after = scrape()
    peaks = dict(after["ray_luke_batch_memory_bytes"])
    while total(after, "documents") < wanted and time.monotonic() < deadline:
        time.sleep(0.2)
        after = scrape()
        peaks.update(after["ray_luke_batch_memory_bytes"])  # a gauge is there for two reports only
    after["ray_luke_batch_memory_bytes"].update(peaks)
    for name, series in after.items():
        for key, value in before.get(name, {}).items():
            if name.endswith("_total"):
                series[key] -= value
    return after, table, config


def test_counts_are_those_of_the_output(run: tuple[Samples, pa.Table, JobConfig]) -> None:
    """Documents, what was read of them, and dead letters by class agree with the files."""
    samples, table, _ = run
    coverage = [row["coverage"] for row in table.to_pylist()]
    assert total(samples, "documents") == table.num_rows == 53
    assert total(samples, "dead_letters") == 2
    assert total(samples, "dead_letters", error_class="DocumentError") == 1
    assert total(samples, "sentences", model="") == sum(row["sentences"] for row in coverage)
    for name in ("windows", "tokens"):
        assert total(samples, name, model="main") == sum(row[name] for row in coverage), name
    mentions = sum(len(row["mentions"]) for row in table.to_pylist())
    assert total(samples, "mentions") == mentions > 0
    assert total(samples, "pairs", model="main") > 0
    assert total(samples, "spans", model="main") > 0
    assert total(samples, "entities", model="main") >= total(samples, "spans") + 2 * total(samples, "pairs")
    assert total(samples, "fragments_planned", state="new") == total(samples, "fragments_finished") == 14
    assert total(samples, "items", outcome="committed") == total(samples, "items") > 0
    assert total(samples, "memory_bytes", model="main") > 10**8
    assert total(samples, "loads", model="main") == 1


def test_positions_are_used_or_padding(run: tuple[Samples, pa.Table, JobConfig]) -> None:
    """What is computed is at least what was read; engine transformers pads, so it is more."""
    samples, _, _ = run
    read = total(samples, "tokens", model="main") + total(samples, "entities", model="main")
    assert total(samples, "positions", use="used") == read
    assert total(samples, "positions", use="padding") > 0
    assert 0 < total(samples, "batches") <= total(samples, "windows")


def test_seconds_by_stage_are_the_actors_time(run: tuple[Samples, pa.Table, JobConfig]) -> None:
    """Each stage is timed by itself, most of them in the child process; together they are the time that the
    actor was there, within 10%.
    """
    samples, _, _ = run
    stages = ("load", "build", "forward", "decode", "waiting", "lost")
    seconds = {stage: total(samples, "seconds", stage=stage, model="main") for stage in stages}
    whole = total(samples, "actor_seconds", model="main")
    assert sum(seconds.values()) == pytest.approx(whole, rel=0.1), seconds
    assert min(seconds[stage] for stage in stages if stage != "lost") > 0
    assert seconds["lost"] == 0
    for stage in ("read", "segment", "propose", "commit"):
        assert total(samples, "seconds", stage=stage, model="") > 0, stage


def test_dashboards_and_rules_ask_for_what_is_exported(run: tuple[Samples, pa.Table, JobConfig]) -> None:
    """Every metric of a query in infra/ is one that this run has exported, or one of Ray's that only a
    cluster has; every label that it is selected or grouped by is one that it has.
    """
    samples, _, _ = run
    asked = queried()
    assert len(asked) > 15
    exported = {name for name in samples if name.startswith("ray_luke_batch_")}
    unknown = {name for name in asked if name.startswith("ray_luke_batch_")} - exported
    assert not unknown
    labels = {metric.exported: set(metric.labels) for metric in METRICS}
    for name, used in asked.items():
        if name in labels:
            assert used <= labels[name] | {"instance", "job", "SessionName", "NodeAddress"}, name
    missing = _not_seen(set(asked) - set(labels) - GPU_ONLY)
    assert not missing, f"no metrics of Ray {ray.__version__}"


def _not_seen(names: set[str]) -> set[str]:
    """Those of `names` that no scrape of some seconds has: Ray reports on its nodes now and then, and drops
    in between what is older than two reports of its workers.
    """
    deadline = time.monotonic() + 20
    left = names - set(scrape())
    while left and time.monotonic() < deadline:
        time.sleep(0.3)
        left -= set(scrape())
    return left


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    """Nothing is exported that nobody looks at."""
    text = (INFRA / "grafana" / "luke-batch.json").read_text(encoding="utf-8")
    text += (INFRA / "prometheus" / "rules.yaml").read_text(encoding="utf-8")
    assert {metric.exported for metric in METRICS} <= set(re.findall(r"ray_luke_batch_\w+", text))
